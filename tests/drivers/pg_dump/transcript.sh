# pg_dump in each format, and a restore of what it wrote.
set -u
section() { printf '\n=== %s\n' "$*"; }
# Since 15.14 and 17.6 a plain dump has a random word in it.
plain() { sed -E '/^\\(un)?restrict /d'; }
server=$(psql -XAtc 'show server_version_num')
version=$(pg_dump --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')
if [ "$version" -lt $((server / 10000)) ]; then
    section an older pg_dump refuses
    pg_dump -d "$1" 2>&1
    # Restoring needs no certain version.
fi
section plain
pg_dump -d "$1" 2>&1 | plain
section schema, inserts, one table
pg_dump -d "$1" --schema-only --create 2>&1 | plain
pg_dump -d "$1" --data-only --inserts -t customer -t office.ledger 2>&1 | plain | md5sum
pg_dump -d "$1" --column-inserts --rows-per-insert=7 -t product 2>&1 | plain | tail -30
pg_dump -d "$1" -t nowhere 2>&1
if [ "$version" -ge $((server / 10000)) ]; then
    section custom, directory, tar
    for format in custom directory tar; do
        jobs=1
        [ $format != directory ] || jobs=2
        pg_dump -d "$1" -F $format -j $jobs -f dump.$format 2>&1
        pg_restore -f - dump.$format 2>&1 | plain | md5sum
        pg_restore -l dump.$format 2>&1 | grep -v '^;' | sed -E 's/^[0-9]+; [0-9]+ [0-9]+/n; n n/'
    done
    section restored
    for format in custom directory; do
        jobs=1
        [ $format != directory ] || jobs=2
        psql -XqAtd "$1" -c 'create database shop_copy' 2>&1
        there="${1%/shop}/shop_copy"
        pg_restore -j $jobs --no-owner --no-privileges -d "$there" dump.$format 2>&1
        echo "exit $?"
        pg_dump -d "$there" 2>&1 | plain | md5sum
        psql -XqAtd "$1" -c 'drop database shop_copy' 2>&1
    done
fi
section a restore into the same database
psql -XqAtd "$1" -c 'create schema attic' -c 'create table attic.customer as select * from customer' 2>&1
{
    echo 'begin; truncate attic.customer; copy attic.customer from stdin;'
    psql -XqAtd "$1" -c 'copy (select * from customer order by id desc) to stdout'
    echo '\.'
    echo 'commit;'
} | psql -Xd "$1" 2>&1
psql -XAtd "$1" -c 'select count(*), sum(balance) from attic.customer' -c 'drop schema attic cascade' 2>&1
pg_isready -d "$1"
