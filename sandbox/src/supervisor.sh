# Runs one server for a test process.
#
# Orders come on standard input, one a line. When that ends, because the handle was dropped or the test process was
# killed, the server goes and its folder with it: no signal handler and no parent-death signal is needed.
#
# $1 is the folder, $2 the signal that ends the server for good, the rest the server's command.
folder=$1
last=$2
shift 2
server=

end() {
    [ -n "$server" ] || return 0
    kill -s "$1" "$server" 2>/dev/null
    wait "$server"
    server=
}

while read -r order signal; do
    case $order in
    start)
        "$@" >"$folder/log" 2>&1 </dev/null &
        server=$!
        echo "$server"
        ;;
    stop)
        end "$signal"
        echo stopped
        ;;
    esac
done

# A paused server and its children do not act on any other signal.
for stat in /proc/[0-9]*/stat; do
    read -r pid _ state parent _ <"$stat" || continue
    [ "$state $parent" = "T $server" ] && kill -s CONT "$pid"
done 2>/dev/null
[ -n "$server" ] && kill -s CONT "$server" 2>/dev/null
end "$last"
rm -rf "$folder"
