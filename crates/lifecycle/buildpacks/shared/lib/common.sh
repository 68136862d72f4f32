# What every buildpack's script starts with: how to speak, and the environment buildpacks share.

set -euo pipefail

BUILDPACK_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILDPACK_VERSION=$(<"$BUILDPACK_DIR/VERSION")

step() { printf -- '-----> %s\n' "$*"; }
info() { printf '       %s\n' "$*"; }
warn() { printf '       **WARNING** %s\n' "$*"; }
fail() { printf '       **ERROR** %s\n' "$*" >&2; exit 1; }
indent() { sed -u 's/^/       /'; }

# Tools that bring their own certificates use the stack's instead.
use_system_certificates() {
  local file=/etc/ssl/certs/ca-certificates.crt name
  [ -r "$file" ] || return 0
  for name in SSL_CERT_FILE PIP_CERT REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS CURL_CA_BUNDLE GIT_SSL_CAINFO; do
    if [ -z "${!name:-}" ]; then export "$name=$file"; fi
  done
}

# add_path NAME FOLDER: puts FOLDER before what the variable NAME lists.
add_path() {
  [ -d "$2" ] || return 0
  export "$1=$2${!1:+:${!1}}"
}

# Makes what earlier buildpacks supplied usable by this one: DEPS_DIR/N/{bin,lib,include,pkgconfig,env}.
use_supplied() {
  local folder file
  for folder in "$1"/*/; do
    folder=${folder%/}
    add_path PATH "$folder/bin"
    add_path LD_LIBRARY_PATH "$folder/lib"
    add_path LIBRARY_PATH "$folder/lib"
    add_path CPATH "$folder/include"
    add_path PKG_CONFIG_PATH "$folder/pkgconfig"
    for file in "$folder"/env/*; do
      if [ -f "$file" ]; then export "${file##*/}=$(<"$file")"; fi
    done
  done
}

# describe DEP_DIR NAME: tells the platform who did this.
describe() {
  printf 'name: %s\nversion: "%s"\nconfig: {}\n' "$2" "$BUILDPACK_VERSION" >"$1/config.yml"
}

# profile DEP_DIR NAME: keeps standard input as a script to run before the app starts.
profile() {
  mkdir -p "$1/profile.d"
  cat >"$1/profile.d/$2"
}

# For the last buildpack: what all of them supplied takes effect before the app starts. DEPS_DIR is set by then.
write_launch_environment() {
  local deps=$1 target=$2 folder index file
  [ -n "$target" ] || return 0
  mkdir -p "$target"
  {
    for folder in "$deps"/*/; do
      folder=${folder%/} index=${folder##*/}
      if [ -d "$folder/bin" ]; then echo "export PATH=\"\$DEPS_DIR/$index/bin:\$PATH\""; fi
      if [ -d "$folder/lib" ]; then
        echo "export LD_LIBRARY_PATH=\"\$DEPS_DIR/$index/lib\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}\""
      fi
    done
  } >"$target/000_multi-supply.sh"
  for file in "$deps"/*/profile.d/*; do
    [ -f "$file" ] || continue
    folder=${file%/profile.d/*} index=${folder##*/}
    cp "$file" "$target/${index}_${file##*/}"
  done
}

# copy_tree FROM TO: as fast as it can be done; the copies share their files where they lie on one file system.
copy_tree() {
  mkdir -p "${2%/*}"
  cp -al "$1" "$2" 2>/dev/null || { rm -rf "$2"; cp -a "$1" "$2"; }
}
