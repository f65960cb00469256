"""Shell completion: click's own, with tornpage's names, and with colons, which bash takes for separators.

Bash ends a word at each colon, so it would complete ``can`` of ``bug:can`` alone, and insert the whole name after the
colon. The script passes the whole line instead, and removes the part before the last colon.
"""

import os
import pkgutil
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "_TORNPAGE_COMPLETE"
# The most files of this directory that are searched for targets.
_MOST_FILES: Final = 200
_TARGET: Final = re.compile(r"^class (\w+)\((?:\w+\.)?\w*Target\)", re.MULTILINE)
_MARK: Final = "tornpage completion"


class Bash(BashComplete):
    """Bash, with the whole line passed on."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT} response completion type value word
    word=${line##*[[:space:]]}
    response=$(COMP_WORDS="$line" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete $1)
    for completion in $response; do
        IFS=',' read type value <<< "$completion"
        case $type in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            plain)
                if [[ $COMP_WORDBREAKS == *:* && $word == *:* ]]; then value=${value#"${word%%"${word##*:}"}"}; fi
                COMPREPLY+=("$value") ;;
        esac
    done
    return 0
}

%(complete_func)s_setup() {
    complete -o nosort -F %(complete_func)s %(prog_name)s
}

%(complete_func)s_setup;
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the completed one, and the given part of that one."""
        line = os.environ["COMP_WORDS"]
        words = line.split()
        incomplete = "" if not words or line[-1:].isspace() else words.pop()
        return words[1:], incomplete


def script(shell: str | None) -> str:
    """The script that a shell runs; raises LookupError for an unknown shell."""
    from tornpage.scenarios.cli.group import tornpage  # noqa: PLC0415 - the group asks this module, too

    register()
    found = get_completion_class(_known(shell))
    if found is None:
        raise LookupError(f"click knows no completion for {shell}")
    return found(tornpage, {}, "tornpage", VARIABLE).source()


def register() -> None:
    """Register this Bash class with click."""
    add_completion_class(Bash, "bash")


def install(shell: str | None) -> list[str]:
    """Write the script, and the line that loads it if the shell needs one; return what was done, a line each."""
    shell = _known(shell)
    home = Path.home()
    if shell == "fish":
        path = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "fish/completions/tornpage.fish"
    else:
        path = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share") / f"tornpage/completion.{shell}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script(shell), encoding="utf-8")
    done = [f"{path} was written"]
    if shell != "fish":
        settings = (Path(os.environ.get("ZDOTDIR") or home) if shell == "zsh" else home) / f".{shell}rc"
        text = settings.read_text(encoding="utf-8") if settings.exists() else ""
        if _MARK not in text:
            begin = "autoload -Uz compinit && compinit\n" if shell == "zsh" and "compinit" not in text else ""
            with settings.open("a", encoding="utf-8") as file:
                file.write(
                    f"{'' if text.endswith(chr(10)) or not text else chr(10)}{begin}source '{path}'  # {_MARK}\n"
                )
            done.append(f"{settings} loads it")
    return [*done, f"Start a new {shell} to use it."]


def _known(shell: str | None) -> str:
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise LookupError(
            f"SHELL is not a shell with completion ({name or 'it is empty'}); give one of {', '.join(SHELLS)}"
        )
    return name


# -- the names -------------------------------------------------------------------------------------------------


def complete_target(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Targets that ship, known bugs, and the targets in files of this directory."""
    from tornpage.scenarios.targets.registry import SHIPPED  # noqa: PLC0415 - only who completes needs it

    names = [*SHIPPED, *own_targets(), *(f"bug:{name}" for name in bug_names())]
    return _beginning(names, incomplete)


def complete_bug(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Known bugs."""
    return _beginning(bug_names(), incomplete)


def complete_code(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The codes that `tornpage explain` knows: checks and result codes."""
    from tornpage.scenarios.model.explain import codes  # noqa: PLC0415 - only who completes needs it

    return _beginning(codes(), incomplete)


def bug_names() -> list[str]:
    """The names of all known bugs, without loading any: each has the name of its file."""
    from tornpage.scenarios.targets import known_bugs  # noqa: PLC0415 - only who completes needs it

    helpers = ("build", "small")
    return sorted(
        one.name.replace("_", "-") for one in pkgutil.iter_modules(known_bugs.__path__) if one.name not in helpers
    )


def own_targets(directory: Path = Path()) -> list[str]:
    """Targets that files of this directory define, as ``module:Class``."""
    found = []
    for path in sorted(directory.glob("*.py"))[:_MOST_FILES]:
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.stem}:{name}" for name in _TARGET.findall(text)]
    return found


def _beginning(names: Iterable[Any], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if str(name).startswith(incomplete)]
