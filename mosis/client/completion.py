"""`mosis completion bash|zsh|fish`: a script for commands and options, from the parser."""

import argparse

BASH = """\
# mosis completion for bash: source <(mosis completion bash)
_mosis() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} command= each
    for each in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $each in -*) ;; *) command=$each; break ;; esac
    done
    local words="{commands}"
    case $command in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    if [ -n "$command" ] && [[ $word != -* ]]; then
        COMPREPLY+=($(compgen -f -- "$word"))
    fi
}}
complete -o filenames -F _mosis mosis
"""
ZSH = """\
#compdef mosis
# mosis completion for zsh: mosis completion zsh > "${{fpath[1]}}/_mosis"
_mosis() {{
    local -a commands
    commands=(
{commands}
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    case $words[2] in
{cases}
    esac
    _files
}}
if [ "$funcstack[1]" = "_mosis" ]; then _mosis "$@"; else compdef _mosis mosis; fi
"""


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for a shell."""
    commands = _commands(parser)
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)


def _commands(parser: argparse.ArgumentParser) -> dict[str, tuple[str, dict[str, str]]]:
    """{command: (its help, {option or fixed word: help})}."""
    (group,) = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    described = {each.dest: each.help or "" for each in group._choices_actions}
    found = {}
    for name, sub in group.choices.items():
        words: dict[str, str] = {}
        for action in sub._actions:
            shown = (
                "" if action.help in (None, argparse.SUPPRESS) else str(action.help) % vars(action)
            )
            for option in action.option_strings:
                if option.startswith("--"):
                    words[option] = shown
            if not action.option_strings and action.choices:
                words |= {str(each): "" for each in action.choices}
        found[name] = (described.get(name, ""), words)
    return found


def _bash(commands: dict[str, tuple[str, dict[str, str]]]) -> str:
    cases = [
        f'        {name}) words="{" ".join(words)}" ;;' for name, (_, words) in commands.items()
    ]
    return BASH.format(commands=" ".join(commands), cases="\n".join(cases))


def _zsh(commands: dict[str, tuple[str, dict[str, str]]]) -> str:
    shown = [f"        {_quoted(f'{name}:{about}')}" for name, (about, _) in commands.items()]
    cases = [
        f"        {name}) compadd -- {' '.join(words)} ;;" for name, (_, words) in commands.items()
    ]
    return ZSH.format(commands="\n".join(shown), cases="\n".join(cases))


def _fish(commands: dict[str, tuple[str, dict[str, str]]]) -> str:
    lines = [
        "# mosis completion for fish: mosis completion fish > ~/.config/fish/completions/mosis.fish"
    ]
    for name, (about, words) in commands.items():
        lines.append(f"complete -c mosis -n __fish_use_subcommand -f -a {name} -d {_quoted(about)}")
        for word, shown in words.items():
            condition = f"-n '__fish_seen_subcommand_from {name}'"
            kind = f"-l {word[2:]}" if word.startswith("--") else f"-a {word}"
            lines.append(
                f"complete -c mosis {condition} {kind}" + (f" -d {_quoted(shown)}" if shown else "")
            )
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("%%", "%").replace("\\", "\\\\").replace("'", "’") + "'"
