# What stands before each start of the database: its volume is whole, and each role may do what it should.
# Needs PGDATA, POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD_FILE, and the same two of the roles OWNER and APP.
set -eu
final=$PGDATA
roles=$(dirname "$0")/roles.sql

half_made() {
  echo "the database volume is half made: $1"
  echo "hint: begin anew, WITHOUT its data: kubectl -n $NAMESPACE delete --wait=false pvc/data-postgresql-0 pod/postgresql-0"
  exit 1
}

# The image's own first start fills a folder beside the final one, which is then moved into place: killed in the middle,
# it begins anew. In place, the next start would take half a database for a whole one.
first_start() {
  # An empty one may go; with something else in it, it stays as it is.
  [ ! -d "$final" ] || rmdir "$final" || half_made "there is something else in it"
  trap 'exit 143' TERM
  export PGDATA="$final.new"
  rm -rf "$PGDATA"
  $(command -v docker-entrypoint.sh || command -v entrypoint) postgres &
  server=$!
  # Over TCP it answers only once the database is there.
  until pg_isready --quiet --host=127.0.0.1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB"; do
    kill -0 "$server"
    sleep 0.1
  done
  pg_ctl stop --pgdata="$PGDATA" --mode=fast --silent
  wait "$server"
  mv "$PGDATA" "$final"
  export PGDATA="$final"
}

if [ -s "$final/PG_VERSION" ]; then
  # A first start in place, by another chart, may have been killed. Three databases come with every server.
  [ -s "$final/global/pg_control" ] || half_made "its first start was killed"
  set -- "$final"/base/[0-9]*
  [ "$POSTGRES_DB" = postgres ] || [ $# -gt 3 ] || half_made "it has no database $POSTGRES_DB"
else
  first_start
fi

# PostgreSQL alone, which nobody else reaches. A statement that fails ends it, and is not shown: it may hold a password.
postgres --single -j -D "$PGDATA" \
  -c exit_on_error=on -c log_min_messages=fatal -c log_min_error_statement=panic -c log_error_verbosity=terse \
  -c roles.server_password_file="$POSTGRES_PASSWORD_FILE" \
  -c roles.owner="$OWNER_USER" -c roles.owner_password_file="$OWNER_PASSWORD_FILE" \
  -c roles.app="$APP_USER" -c roles.app_password_file="$APP_PASSWORD_FILE" \
  "$POSTGRES_DB" <"$roles" >/dev/null
