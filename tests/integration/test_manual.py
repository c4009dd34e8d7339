"""Manual pages and completion of the command line fit the program."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from proxy import RINGMAIN, run_command

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PAGES = sorted((DEPLOY / "man").glob("*.1"))
MAKE_CONFIGURATION_PAGE = DEPLOY / "man" / "configuration_page"


def commands():
    shown = run_command("--help").stdout
    return re.findall(r"^  ([a-z]+) ", shown[shown.index("\nSubcommands:"):].split("\n\n")[0], re.M)


def options(command):
    return set(re.findall(r"^  (?:-h,)?(--[a-z-]+)", run_command(command, "--help").stdout, re.M))


def shown(path):
    if shutil.which("man") is None:
        pytest.skip("man is not installed (Debian package man-db)")
    done = subprocess.run(["man", "--warnings", "-l", str(path)], capture_output=True, text=True, env={**os.environ, "MANWIDTH": "150", "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_manual_page_is_in_order(path):
    assert path.stem in shown(path)


def test_manual_page_names_every_command_and_option():
    text = (DEPLOY / "man" / "ringmain.1").read_text().replace("\\-", "-")
    for command in commands():
        assert f".SS {command}\n" in text
        section = text[text.index(f".SS {command}\n"):].split("\n.S")[0]
        for option in options(command) - {"--help"}:
            assert option in section, (command, option)


def test_configuration_page(tmp_path):
    page = tmp_path / "ringmain.yaml.5"
    page.write_text(subprocess.run([MAKE_CONFIGURATION_PAGE, DEPLOY / "REFERENCE.md"], capture_output=True, text=True, check=True).stdout)
    text = shown(page)
    assert "\\f" not in text and "](" not in text and "**" not in text
    reference = (DEPLOY / "REFERENCE.md").read_text()
    keys = re.findall(r"^\| `([a-z_.\[\]]+)` \|", reference, re.M)
    assert len(keys) > 60 and [key for key in keys if key not in text] == []
    for heading in re.findall(r"^## (.*)$", reference, re.M):
        assert heading.upper() in text


def test_configuration_page_of_each_kind_of_block(tmp_path):
    source = tmp_path / "reference.md"
    source.write_text("# Title\n\n## Part\n\nText with `code-x`, *stress*, **weight** and [a link](other.md).\n\n- one\n  goes on\n- two\n\n1. first\n\n"
                      "| key | meaning | default |\n| --- | --- | --- |\n| `a` | what \\| that | `1` |\n| `b` | nothing | |\n\n```yaml\n.x: 'y\\n'\n```\n")
    made = subprocess.run([MAKE_CONFIGURATION_PAGE, source], capture_output=True, text=True, check=True).stdout
    assert made.split(".SH DESCRIPTION\n")[1].split(".SH SEE ALSO")[0] == (
        ".SH PART\n.PP\nText with \\fBcode\\-x\\fP, \\fIstress\\fP, \\fBweight\\fP and a link.\n.IP \\[bu] 4\none goes on\n.IP \\[bu] 4\ntwo\n.IP 1. 4\nfirst\n"
        ".TP\n\\fBa\\fP\nwhat | that; default: \\fB1\\fP\n.TP\n\\fBb\\fP\nnothing\n.PP\n.nf\n.RS 4\n\\&.x: 'y\\en'\n.RE\n.fi\n")


# ---- Completion -----------------------------------------------------------------------------------------------------

# What each shell would offer after the words given to it. The last is the one being written.
BASH = """source {file}
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
compopt() {{ :; }}
_ringmain
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
FISH = "source {file}; complete -C \"$argv\" | string split -f1 \\t"
ZSH = """
_describe() { local name=$argv[-1]; print -l -- ${${(P)name}%%:*} }
_files() { print -l -- *(N) }
_message() { : }
words=("$@") CURRENT=$#
run() { source FILE }
run
"""


def complete(shell, words, folder):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = folder / "ringmain"
    if not program.exists():
        program.symlink_to(RINGMAIN)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    words = ["ringmain", *words]
    if shell == "bash":
        command = ["bash", "-c", BASH.format(file=DEPLOY / "completion/bash/ringmain"), "bash", *words]
    elif shell == "zsh":
        command = ["zsh", "-f", "-c", ZSH.replace("FILE", str(DEPLOY / "completion/zsh/_ringmain")), "zsh", *words]
    else:
        command = ["fish", "--no-config", "-c", FISH.format(file=DEPLOY / "completion/fish/ringmain.fish"), " ".join(words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.stderr == "", done.stderr
    return {word.rstrip("/") for word in done.stdout.split("\n") if word}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell, tmp_path):
    (tmp_path / "proxy.yaml").touch()
    assert set(commands()) <= complete(shell, [""], tmp_path)
    for command in commands():
        found = complete(shell, [command, "--"], tmp_path)
        assert options(command) <= found, (command, found)
        assert not {word for word in found if not word.startswith("--")}
    assert "proxy.yaml" in complete(shell, ["check", ""], tmp_path)
    assert "proxy.yaml" in complete(shell, ["run", "--config", ""], tmp_path)
    assert "proxy.yaml" in complete(shell, ["run", "--takeover", "--config", ""], tmp_path)
    assert "run" in complete(shell, ["ru"], tmp_path)
