# Uses of descriptors that only Bash has: $1 rounds. Writes a byte to $2 for each.
set -eu

for ((round = 0; round < $1; round++)); do
    # Process substitution in both directions.
    diff <(seq 100) <(seq 2 101) >differs || true
    seq 30 | tee >(wc -l >lines) >(tail -n 1 >last) >copy

    # Descriptor numbers chosen by Bash.
    exec {one}>one {two}<>two
    echo "$round" >&"$one"
    exec {moved}>&"$one"- {one}>&-
    echo "$round" >&"$moved"
    exec {moved}>&- {two}>&-

    # A coprocess with requests and responses.
    coproc ADDER { while read -r a b; do echo $((a + b)); done; }
    input=${ADDER[1]}
    echo 1 2 >&"$input"
    read -r sum <&"${ADDER[0]}"
    exec {input}>&-
    wait "$ADDER_PID" || true

    # Here-strings, and both outputs at once.
    read -r word <<<"round $round sum ${sum:-}"
    { echo "$word"; echo "$word" >&2; } &>both
    { echo "$word" | cat; } |& cat >>both

    mapfile -t files < <(ls -1 /usr)
    for file in "${files[@]:0:3}"; do
        [[ -e /usr/$file ]] && head -c 10 < <(echo "$file") >/dev/null
    done

    printf . >>"$2"
done
