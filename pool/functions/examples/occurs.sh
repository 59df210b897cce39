# A word on stdin, how often it occurs in the text $1 on stdout.
counts=$(tr -cs '[:alnum:]' '\n' <"$1" | sort | uniq -c)
# A forked function's calls go on from here.
read -r word
printf '%s\n' "$counts" | awk -v word="$word" '$2 == word { count = $1 } END { print count + 0 }'
