"""Prints the requirements of an app that has no requirements.txt, one a line, as pip reads them.

usage: requirements.py Pipfile.lock|Pipfile|pyproject.toml
"""

import json
import sys


def of_entry(name, entry):
    """One line for a package of a Pipfile or its lock."""
    if isinstance(entry, str):
        entry = {"version": entry}
    extras = "[%s]" % ",".join(entry["extras"]) if entry.get("extras") else ""
    if "git" in entry:
        at = "@" + entry["ref"] if entry.get("ref") else ""
        line = "%s%s @ git+%s%s" % (name, extras, entry["git"], at)
    elif "path" in entry:
        line = ("-e " if entry.get("editable") else "") + entry["path"]
    elif "file" in entry:
        line = entry["file"]
    else:
        version = entry.get("version", "*")
        line = name + extras + ("" if version == "*" else version)
    if entry.get("markers"):
        line += " ; " + entry["markers"]
    for digest in entry.get("hashes", []):
        line += " --hash=" + digest
    return line


def of_pipfile(sources, packages):
    for number, source in enumerate(sources):
        yield ("--index-url " if number == 0 else "--extra-index-url ") + source["url"]
    for name, entry in packages.items():
        yield of_entry(name, entry)


def without_default_index(sources):
    """The public index goes without saying: the stack's own configuration may name a mirror."""
    return [source for source in sources if source.get("name") != "pypi"]


def read(path):
    if path.endswith(".lock"):
        with open(path, encoding="utf-8") as file:
            lock = json.load(file)
        sources = without_default_index(lock.get("_meta", {}).get("sources", []))
        return of_pipfile(sources, lock.get("default", {}))
    import tomllib

    with open(path, "rb") as file:
        table = tomllib.load(file)
    if path.endswith("Pipfile"):
        return of_pipfile(without_default_index(table.get("source", [])), table.get("packages", {}))
    return table.get("project", {}).get("dependencies", [])


if __name__ == "__main__":
    for requirement in read(sys.argv[1]):
        print(requirement)
