"""``xpnn completion SHELL``: what a shell completes, made from the parser of the command line."""

import argparse
import shlex
from collections.abc import Iterator

SHELLS = ("bash", "zsh", "fish")
HOW = {
    "bash": 'eval "$(xpnn completion bash)"',
    "zsh": 'eval "$(xpnn completion zsh)"',
    "fish": "xpnn completion fish | source",
}
"""What to write into the file that the shell reads when it begins."""

Parsers = dict[str, argparse.ArgumentParser]


def completion(shell: str, commands: Parsers, helps: dict[str, str]) -> str:
    """A script that lets the shell complete commands, options, their choices, and files."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands, helps)


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """The options by their long names."""
    for action in parser._actions:  # there is no public way to ask for them
        if action.option_strings:
            yield action.option_strings[-1], action


def _choices(action: argparse.Action) -> list[str]:
    return [str(one) for one in action.choices or ()]


def _positional_choices(parser: argparse.ArgumentParser) -> list[str]:
    return [one for a in parser._actions if not a.option_strings for one in _choices(a)]


def _bash(commands: Parsers, helps: dict[str, str]) -> str:
    lines = [
        "_xpnn() {",
        "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=",
        "    if [ $COMP_CWORD -eq 1 ]; then",
        f"        words={shlex.quote(' '.join([*commands, '--version', '--help']))}",
        "    else",
        '        case "${COMP_WORDS[1]} $prev" in',
    ]
    for command, parser in commands.items():
        for option, action in _options(parser):
            if choices := _choices(action):
                lines.append(
                    f"        {shlex.quote(f'{command} {option}')}) "
                    f"words={shlex.quote(' '.join(choices))} ;;"
                )
    lines += [
        "        esac",
        '        if [ -z "$words" ]; then',
        '            case "${COMP_WORDS[1]}" in',
    ]
    for command, parser in commands.items():
        every = [option for option, _ in _options(parser)]
        plain = _positional_choices(parser)
        lines.append(f"            {command})")
        lines.append(f"                words={shlex.quote(' '.join(plain))}")
        lines.append(
            f'                case "$cur" in -*) words={shlex.quote(" ".join(every))} ;; esac ;;'
        )
    lines += [
        "            esac",
        "        fi",
        "    fi",
        '    if [ -n "$words" ]; then COMPREPLY=($(compgen -W "$words" -- "$cur"))',
        '    else COMPREPLY=($(compgen -f -- "$cur")); fi',
        "}",
        "complete -o filenames -F _xpnn xpnn",
    ]
    return "\n".join(lines) + "\n"


def _zsh(commands: Parsers, helps: dict[str, str]) -> str:
    lines = ["#compdef xpnn", "_xpnn() {", "    local -a commands", "    commands=("]
    lines += [f"        {shlex.quote(f'{name}:{helps[name]}')}" for name in commands]
    lines += [
        "    )",
        "    if (( CURRENT == 2 )); then _describe command commands; return; fi",
        "    local command=$words[2]",
        "    shift words; (( CURRENT-- ))",
        "    case $command in",
    ]
    for name, parser in commands.items():
        specs = []
        for option, action in _options(parser):
            about = _in_brackets(action.help or "")
            value = ""
            if action.nargs != 0:
                choices = _choices(action)
                value = f":value:({' '.join(choices)})" if choices else ":value:_files"
            specs.append(shlex.quote(f"{option}[{about}]{value}"))
        plain = _positional_choices(parser)
        specs.append(shlex.quote(f"*:file:({' '.join(plain)})" if plain else "*:file:_files"))
        lines.append(f"    {name}) _arguments {' '.join(specs)} ;;")
    lines += ["    esac", "}", "compdef _xpnn xpnn"]
    return "\n".join(lines) + "\n"


def _in_brackets(text: str) -> str:
    return text.replace("[", "(").replace("]", ")").replace(":", " -")


def _fish(commands: Parsers, helps: dict[str, str]) -> str:
    lines = []
    for name, parser in commands.items():
        lines.append(
            f"complete -c xpnn -f -n __fish_use_subcommand -a {name} -d {_fish_text(helps[name])}"
        )
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        for option, action in _options(parser):
            line = f"complete -c xpnn {seen} -l {option.removeprefix('--')}"
            if action.nargs != 0:
                choices = _choices(action)
                line += f" -x -a {_fish_text(' '.join(choices))}" if choices else " -r"
            lines.append(f"{line} -d {_fish_text(action.help or '')}")
        if plain := _positional_choices(parser):
            lines.append(f"complete -c xpnn {seen} -f -a {_fish_text(' '.join(plain))}")
    return "\n".join(lines) + "\n"


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
