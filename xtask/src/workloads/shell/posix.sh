# What scripts do with descriptors, over and over: $1 rounds. A byte for each is written to $2.
set -eu

both() {
    echo out
    echo error >&2
}

round=0
while [ "$round" -lt "$1" ]; do
    round=$((round + 1))

    # Pipes, of programs and of parts of the shell.
    seq 50 | sort -rn | head -n 3 | wc -l >count
    seq 20 | while read -r number; do echo "$number"; done | tail -n 1 >last
    (both | cat) 2>errors >outputs

    # Descriptors that are opened, moved, copied, and closed.
    exec 3>three 4>&3 5<>five
    echo to three >&3
    echo to three again >&4
    exec 6>&5 5>&-
    both 3>&1 1>&2 2>&3 3>&- >swapped 2>&1
    (exec 7>&4 4>&-; echo from below >&7)
    exec 3>&- 4>&- 6>&-

    # Files that are read and written at once, grow, and are deleted while open.
    exec 8<three
    rm three
    read -r line <&8
    echo "$line" >>grows
    exec 8<&-

    # Here-documents, short and beyond what a pipe holds.
    cat <<END >here
round $round
END
    wc -c <<END >here
$(seq 20000)
END

    # Substitutions and subshells in one another.
    text=$(echo a $(echo b $( (echo c; echo d) | tr '\n' ' ')))
    (cd / && (ls | (read -r first; echo "$first $text"))) >nested

    # Jobs in the background, with and without waiting for each.
    for job in 1 2 3 4; do
        (sleep 0.01; echo "$job") >"job$job" 2>&1 &
    done
    wait
    sh -c 'exec 9>"nine" && exec cat "$0" >&9' nested &
    wait $!

    printf . >>"$2"
done
