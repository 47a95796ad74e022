"""``xpnn completion SHELL``: what a shell completes, made from the parser of the command line."""

import argparse
import shlex
from collections.abc import Iterable, Iterator, Mapping

from xpnn.commands.options import path

SHELLS = ("bash", "zsh", "fish")
HOW = {
    "bash": 'eval "$(xpnn completion bash)"',
    "zsh": 'eval "$(xpnn completion zsh)"',
    "fish": "xpnn completion fish | source",
}
"""What to write into the file that the shell reads when it begins."""

OF_NO_COMMAND = {"--help": "show what there is to do", "--version": "print the release"}
"""Options in the place of a command."""

Parsers = Mapping[str, argparse.ArgumentParser]


def completion(shell: str, commands: Parsers, helps: dict[str, str]) -> str:
    """A script that lets the shell complete commands, options, their choices, and files."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands, helps | OF_NO_COMMAND)


def _options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # there is no public way to ask for them
        if action.option_strings:
            yield action


def _positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not action.option_strings]


def _offered(actions: Iterable[argparse.Action]) -> tuple[str, bool]:
    """The words that may stand as their values, if they can be told, and whether files may."""
    words, files = [], False
    for action in actions:
        words += [str(one) for one in action.choices or ()]
        files |= action.type is path or not (action.option_strings or action.choices)
    return " ".join(words), files


def _bash_offers(words: str, files: bool) -> str:
    return f"words={shlex.quote(words)} files={'yes' if files else ''} ;;"


def _bash(commands: Parsers, helps: dict[str, str]) -> str:
    lines = [
        "_xpnn() {",
        "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= files=",
        "    if [ $COMP_CWORD -eq 1 ]; then",
        f"        words={shlex.quote(' '.join(helps))}",
        "    else",
        '        case "${COMP_WORDS[1]} $prev" in',
    ]
    for command, parser in commands.items():
        for action in _options(parser):
            if action.nargs != 0:
                names = "|".join(shlex.quote(f"{command} {one}") for one in action.option_strings)
                lines.append(f"        {names}) {_bash_offers(*_offered([action]))}")
    lines += [
        "        *)",
        '            case "${COMP_WORDS[1]} $cur" in',
    ]
    for command, parser in commands.items():
        every = " ".join(action.option_strings[-1] for action in _options(parser))
        lines += [
            f"            '{command} -'*) {_bash_offers(every, files=False)}",
            f"            '{command} '*) {_bash_offers(*_offered(_positionals(parser)))}",
        ]
    lines += [
        "            esac ;;",
        "        esac",
        "    fi",
        "    COMPREPLY=()",
        '    if [ -n "$words" ]; then COMPREPLY=($(compgen -W "$words" -- "$cur")); fi',
        '    if [ -n "$files" ]; then',
        "        compopt -o filenames 2>/dev/null",
        "        local IFS=$'\\n'",
        '        COMPREPLY=($(compgen -f -- "$cur"))',
        "    fi",
        "}",
        "complete -F _xpnn xpnn",
    ]
    return "\n".join(lines) + "\n"


def _zsh(commands: Parsers, helps: dict[str, str]) -> str:
    lines = [
        "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }",
        "_xpnn() {",
        "    local -a commands",
        "    commands=(",
    ]
    lines += [f"        {shlex.quote(f'{name}:{about}')}" for name, about in helps.items()]
    lines += [
        "    )",
        "    if (( CURRENT == 2 )); then _describe command commands; return; fi",
        "    local command=$words[2]",
        "    shift words; (( CURRENT-- ))",
        "    case $command in",
    ]
    for name, parser in commands.items():
        specs = []
        for action in _options(parser):
            about = _in_brackets(action.help or "")
            value = _zsh_offers(*_offered([action])) if action.nargs != 0 else ""
            specs += [shlex.quote(f"{one}[{about}]{value}") for one in action.option_strings]
        if others := _positionals(parser):
            specs.append(shlex.quote(f"*{_zsh_offers(*_offered(others))}"))
        lines.append(f"    {name}) _arguments {' '.join(specs)} ;;")
    lines += ["    esac", "}", "compdef _xpnn xpnn"]
    return "\n".join(lines) + "\n"


def _zsh_offers(words: str, files: bool) -> str:
    return ":file:_files" if files else f":value:({words})"


def _in_brackets(text: str) -> str:
    return text.replace("[", "\\[").replace("]", "\\]")


def _fish(commands: Parsers, helps: dict[str, str]) -> str:
    lines = []
    for name, about in helps.items():
        line = "complete -c xpnn -f -n __fish_use_subcommand"
        given = f"-l {name[2:]}" if name in OF_NO_COMMAND else f"-a {name}"
        lines.append(f"{line} {given} -d {_fish_text(about)}")
    for name, parser in commands.items():
        seen = f"complete -c xpnn -n '__fish_seen_subcommand_from {name}'"
        for action in _options(parser):
            line = seen
            for one in action.option_strings:
                line += f" -l {one[2:]}" if one.startswith("--") else f" -s {one[1:]}"
            if action.nargs != 0:
                words, files = _offered([action])
                line += " -r" if files else f" -x -a {_fish_text(words)}"
            lines.append(f"{line} -d {_fish_text(action.help or '')}")
        words, files = _offered(_positionals(parser))
        if not files:
            lines.append(f"{seen} -f -a {_fish_text(words)}")
    return "\n".join(lines) + "\n"


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
