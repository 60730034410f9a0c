"""What a runtime's loader does with plugins at each start: the facts of the system that plugset replaces, inside a container."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

NO_FRAGMENT = {"readme", "changelog", "license", "contributing"}


def main(root: Path) -> None:
    for plugin in sorted(path for path in (root / "plugins").glob("*") if path.is_dir()):
        try:
            load(root, plugin)
        except Exception as error:  # one plugin never stops the next
            print(f"{plugin.name}: {error}", file=sys.stderr)


def load(root: Path, plugin: Path) -> None:
    append_blocks(root / "CLAUDE.md", plugin)
    for skill in sorted(plugin.glob("skills/*")):
        target = root / "skills" / skill.name
        if skill.is_dir() and not target.exists():
            shutil.copytree(skill, target)
    if (plugin / "setup.sh").is_file():
        env = {**os.environ, "CONFIGS_DIR": str(root)}
        subprocess.run(["bash", str(plugin / "setup.sh")], cwd=plugin, env=env, timeout=120, check=False)
    claude = root / ".claude"
    claude.mkdir(exist_ok=True)
    copy_files(plugin / "hooks", claude / "hooks", "*")
    copy_files(plugin / "commands", claude / "commands", "*.md")
    fragment = plugin / "settings-fragment.json"
    if fragment.is_file():
        merge_settings(claude, json.loads(fragment.read_text()))


def append_blocks(memory: Path, plugin: Path) -> None:
    blocks = []
    for path in sorted(plugin.glob("rules/*.md")):
        blocks.append((f"# Plugin: {plugin.name} / rule: {path.name}", path.read_text().strip()))
    for path in sorted(plugin.glob("*.md")):
        text = path.read_text().strip()
        if path.stem.lower() not in NO_FRAGMENT and text:
            blocks.append((f"# Plugin: {plugin.name} / fragment: {path.name}", text))
    there = memory.read_text() if memory.exists() else ""
    if not blocks or blocks[0][0] in there:
        return
    with memory.open("a") as file:
        if there and not there.endswith("\n"):
            file.write("\n")
        file.write("\n\n".join(f"{marker}\n\n{text}" for marker, text in blocks) + "\n")


def copy_files(source: Path, target: Path, pattern: str) -> None:
    for path in sorted(source.glob(pattern)):
        if not path.is_file():
            continue
        target.mkdir(exist_ok=True)
        shutil.copy2(path, target / path.name)
        if path.suffix == ".sh":
            (target / path.name).chmod(0o755)


def merge_settings(claude: Path, fragment: dict) -> None:
    path = claude / "settings.json"
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError):
        settings = {}
    for key, value in fragment.items():
        if key == "hooks":
            for event, handlers in value.items():
                there = settings.setdefault("hooks", {}).setdefault(event, [])
                for handler in handlers:
                    for hook in handler["hooks"]:
                        hook["command"] = hook["command"].replace("${CLAUDE_DIR}", str(claude))
                    if identity(handler) not in [identity(one) for one in there]:
                        there.append(handler)
        elif key not in settings:
            settings[key] = value
        elif isinstance(settings[key], dict) and isinstance(value, dict):
            settings[key] = {**settings[key], **value}
    path.write_text(json.dumps(settings, indent=2) + "\n")


def identity(handler: dict) -> tuple:
    return handler.get("matcher", ""), frozenset(hook["command"] for hook in handler["hooks"])


main(Path(sys.argv[1]))
