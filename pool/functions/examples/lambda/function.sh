# JSON in, JSON out. What goes to stderr is logged when the call fails.
handler() {
  echo "called with $1" >&2
  name=$(printf '%s' "$1" | sed -n 's/.*"name": *"\([^"]*\)".*/\1/p')
  [ -n "$name" ] || return 1
  printf '{"message": "hello, %s"}' "$name"
}
