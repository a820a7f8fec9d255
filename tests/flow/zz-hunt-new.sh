. "$(dirname "$0")/../lib/flow.sh"
need_template base
TAKEOVER=10s
start_daemon
export PYTHONPATH="$SRC/tests/lib" BERTH_BUILD
for ((i = 0; i < N; i++)); do
for o in "--keep" "--keep --host"; do
python3 "$SRC/tests/lib/equal.py" base "$MNT" 1 4 60 $o || echo "FOUND in $i $o"
done; done
