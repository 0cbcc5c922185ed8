# SPDX-License-Identifier: Apache-2.0
#
# Completion of quorumctl for bash: commands, options, and paths of the tree.

# The names below what is typed so far, asked from the ensemble that the options name.
_quorumctl_paths()
{
    local typed=$1 folder name
    shift
    folder=${typed%/*}
    while IFS= read -r name; do
        printf '%s/%s\n' "$folder" "$name"
    done < <(quorumctl "$@" --timeout 1 ls -- "${folder:-/}" 2>/dev/null)
}

_quorumctl()
{
    local commands='status members ls stat get set create rm mv sync watch'
    local options='--server --mount --json --timeout --help'
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' word i
    local asked=()

    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
        --server | --mount)
            asked+=("$word" "${COMP_WORDS[i + 1]}")
            i=$((i + 1))
            ;;
        --timeout) i=$((i + 1)) ;;
        -*) ;;
        *) [ -n "$command" ] || command=$word ;;
        esac
    done
    COMPREPLY=()
    case $previous in
    --server | --timeout | --mode | -m | --if-version | -v | --wait | -w | \
        --since | -s | --exec | -e | --check | -c | --debounce | -d) return ;;
    --mount)
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
        return
        ;;
    esac
    case $command in
    '') options="$options --version" ;;
    members) options="$options --wait" ;;
    ls) options="$options --long" ;;
    set) options="$options --if-version" ;;
    create) options="$options --ephemeral --sequential --parents --mode --dir --plain" ;;
    rm) options="$options --recursive --if-version" ;;
    mv) options="$options --no-replace" ;;
    watch) options="$options --recursive --since --once --exec --debounce --check" ;;
    esac
    case $current in
    -*) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current") ;;
    /*)
        case $command in
        ls | stat | get | set | create | rm | mv | watch)
            compopt -o nospace 2>/dev/null
            while IFS= read -r word; do
                [[ $word == "$current"* ]] && COMPREPLY+=("$(printf %q "$word")")
            done < <(_quorumctl_paths "$current" "${asked[@]}")
            ;;
        esac
        ;;
    *)
        case $command in
        '') mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current") ;;
        members)
            mapfile -t COMPREPLY < <(compgen -W 'add remove promote demote transfer' -- "$current")
            ;;
        esac
        ;;
    esac
}

complete -F _quorumctl quorumctl
