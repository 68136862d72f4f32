# Finds Node.js and reads the app's plan into variables; sourced after common.sh.

command -v node >/dev/null || fail "this stack has no Node.js: install nodejs and npm on it."
npm_folder=$(readlink -f "$(command -v npm || true)" || true)
npm_folder=${npm_folder%/bin/*}

read_plan() {
  local text
  text=$(node "$BUILDPACK_DIR/lib/plan.js" "$1" "$npm_folder/node_modules/semver") || fail "package.json is not readable"
  problem='' start=''
  eval "$text"
  [ -z "$problem" ] || fail "Failed parsing $problem"
}
