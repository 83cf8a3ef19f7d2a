# What only Bash does with descriptors, over and over: $1 rounds. A byte for each is written to $2.
set -eu

for ((round = 0; round < $1; round++)); do
    # Process substitution, into and out of.
    diff <(seq 100) <(seq 2 101) >differs || true
    seq 30 | tee >(wc -l >lines) >(tail -n 1 >last) >copy

    # Numbers that Bash chooses.
    exec {one}>one {two}<>two
    echo "$round" >&"$one"
    exec {moved}>&"$one"- {one}>&-
    echo "$round" >&"$moved"
    exec {moved}>&- {two}>&-

    # A coprocess, that is asked and answers.
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
