# Uses of descriptors in scripts: $1 rounds. Writes a byte to $2 for each.
set -eu

both() {
    echo out
    echo error >&2
}

round=0
while [ "$round" -lt "$1" ]; do
    round=$((round + 1))

    # Pipes between programs and between parts of the shell.
    seq 50 | sort -rn | head -n 3 | wc -l >count
    seq 20 | while read -r number; do echo "$number"; done | tail -n 1 >last
    (both | cat) 2>errors >outputs

    # Open, move, copy and close descriptors.
    exec 3>three 4>&3 5<>five
    echo to three >&3
    echo to three again >&4
    exec 6>&5 5>&-
    both 3>&1 1>&2 2>&3 3>&- >swapped 2>&1
    (exec 7>&4 4>&-; echo from below >&7)
    exec 3>&- 4>&- 6>&-

    # Files that are read while they are written, that grow, and that are deleted while open.
    exec 8<three
    rm three
    read -r line <&8
    echo "$line" >>grows
    exec 8<&-

    # Here-documents, short ones and ones larger than a pipe.
    cat <<END >here
round $round
END
    wc -c <<END >here
$(seq 20000)
END

    # Nested substitutions and subshells.
    text=$(echo a $(echo b $( (echo c; echo d) | tr '\n' ' ')))
    (cd / && (ls | (read -r first; echo "$first $text"))) >nested

    # Background jobs.
    for job in 1 2 3 4; do
        (sleep 0.01; echo "$job") >"job$job" 2>&1 &
    done
    wait
    sh -c 'exec 9>"nine" && exec cat "$0" >&9' nested &
    wait $!

    printf . >>"$2"
done
