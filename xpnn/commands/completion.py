"""``xpnn completion SHELL``: what a shell completes, made from the parser of the command line."""

import argparse
import shlex
from collections.abc import Iterator

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

Parsers = dict[str, argparse.ArgumentParser]


def completion(shell: str, commands: Parsers, helps: dict[str, str]) -> str:
    """A script that lets the shell complete commands, options, their choices, and files."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands, helps | OF_NO_COMMAND)


def _options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # there is no public way to ask for them
        if action.option_strings:
            yield action


def _values(action: argparse.Action) -> str:
    """The words that may stand behind an option, if they can be told."""
    return " ".join(map(str, action.choices or ()))


def _of_positionals(parser: argparse.ArgumentParser) -> tuple[str, bool]:
    """The words that may stand there, and whether files may."""
    positional = [action for action in parser._actions if not action.option_strings]
    words = " ".join(filter(None, map(_values, positional)))
    return words, bool(positional) and not words


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
                files = "yes" if action.type is path else ""
                words = shlex.quote(_values(action))
                lines.append(f"        {names}) words={words} files={files} ;;")
    lines += [
        "        *)",
        '            case "${COMP_WORDS[1]} $cur" in',
    ]
    for command, parser in commands.items():
        every = " ".join(action.option_strings[-1] for action in _options(parser))
        plain, files = _of_positionals(parser)
        lines += [
            f"            '{command} -'*) words={shlex.quote(every)} ;;",
            f"            '{command} '*) words={shlex.quote(plain)} "
            f"files={'yes' if files else ''} ;;",
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
            about, value = _in_brackets(action.help or ""), ""
            if action.nargs != 0:
                words = _values(action)
                files = "_files" if action.type is path else " "
                value = f":value:({words})" if words else f":value:{files}"
            specs += [shlex.quote(f"{one}[{about}]{value}") for one in action.option_strings]
        plain, files = _of_positionals(parser)
        if plain or files:
            specs.append(shlex.quote(f"*:value:({plain})" if plain else "*:file:_files"))
        lines.append(f"    {name}) _arguments {' '.join(specs)} ;;")
    lines += ["    esac", "}", "compdef _xpnn xpnn"]
    return "\n".join(lines) + "\n"


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
                words = _values(action)
                line += " -r" if action.type is path else f" -x -a {_fish_text(words)}"
            lines.append(f"{line} -d {_fish_text(action.help or '')}")
        plain, files = _of_positionals(parser)
        if not files:
            lines.append(f"{seen} -f -a {_fish_text(plain)}")
    return "\n".join(lines) + "\n"


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
