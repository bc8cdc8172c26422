CREATE EXTENSION IF NOT EXISTS citext;
CREATE EXTENSION IF NOT EXISTS dblink;
CREATE EXTENSION IF NOT EXISTS tablefunc;
CREATE EXTENSION IF NOT EXISTS lo;
CREATE EXTENSION IF NOT EXISTS hstore;
CREATE EXTENSION IF NOT EXISTS file_fdw;
CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE TABLE book (id int PRIMARY KEY, title text NOT NULL, price numeric(10, 2), cover bytea, added timestamptz, tags text[], info jsonb,
    feeling mood, code uuid);
INSERT INTO book VALUES
    (1, 'Emma', 9.50, '\x00ff', '2024-01-02 03:04:05.678901+00', '{novel,"a, b"}', '{"pages": 474}', 'happy', '0198c0de-0000-7000-8000-000000000001'),
    (2, 'Persuasion', 8.00, NULL, NULL, '{}', NULL, 'sad', NULL),
    (3, 'Größe; DROP TABLE book', NULL, NULL, NULL, NULL, '[1, 9007199254740993]', NULL, NULL);
CREATE TABLE orders (id bigint PRIMARY KEY, book_id int REFERENCES book, copies int, ordered date DEFAULT '2024-05-06');
INSERT INTO orders VALUES (1, 1, 10), (2, 1, 3), (3, 2, 10);
CREATE TABLE touched (id int);
CREATE SEQUENCE counter;
CREATE VIEW sold AS SELECT title, sum(copies) AS copies FROM book JOIN orders ON orders.book_id = book.id GROUP BY title;
CREATE MATERIALIZED VIEW sold_once AS SELECT * FROM sold;
-- What hides a write where a statement does not show it.
CREATE FUNCTION touch(i int) RETURNS int LANGUAGE sql AS 'SELECT nextval(''counter'')::int';
CREATE FUNCTION stable_touch(i int) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM pg_advisory_lock(7); RETURN i; END $$;
CREATE FUNCTION definer(i int) RETURNS int LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT i';
CREATE FUNCTION tax(i numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT i * 0.2';
CREATE FUNCTION bump(b book) RETURNS int LANGUAGE sql AS 'SELECT nextval(''counter'')::int';
CREATE FUNCTION sha224(i int) RETURNS int LANGUAGE sql AS 'SELECT nextval(''counter'')::int';
CREATE FUNCTION "LOWER"(i text) RETURNS int LANGUAGE sql AS 'SELECT nextval(''counter'')::int';
CREATE VIEW touching AS SELECT touch(id) AS id FROM book;
CREATE VIEW sleeping AS SELECT pg_sleep(1)::text AS slept FROM book;
CREATE VIEW locking AS SELECT pg_advisory_lock(id) IS NULL AS locked FROM book;
CREATE VIEW outer_touching AS SELECT * FROM touching;
CREATE VIEW reading_files AS SELECT pg_read_file('/etc/hostname') AS content;
CREATE TYPE celsius AS (degrees int);
CREATE FUNCTION to_celsius(i int) RETURNS celsius LANGUAGE sql AS 'SELECT ROW(nextval(''counter''))::celsius';
CREATE CAST (int AS celsius) WITH FUNCTION to_celsius(int);
CREATE FUNCTION concat_touch(text, int) RETURNS int LANGUAGE sql AS 'SELECT nextval(''counter'')::int';
CREATE OPERATOR <-> (LEFTARG = text, RIGHTARG = int, FUNCTION = concat_touch);
CREATE FUNCTION check_touch(i int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_lock(8); RETURN true; END $$;
CREATE DOMAIN touchy AS int CHECK (check_touch(VALUE));
CREATE AGGREGATE touch_sum (int) (SFUNC = int4pl, STYPE = int, FINALFUNC = touch);
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE hosts (line text) SERVER files OPTIONS (filename '/etc/hosts');
CREATE VIEW over_hosts AS SELECT * FROM hosts;
CREATE TABLE guarded (id int, note text);
INSERT INTO guarded VALUES (1, 'x');
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
CREATE POLICY guard ON guarded USING (touch(id) > 0);
CREATE DOMAIN finer AS touchy;
CREATE TYPE holding AS (inside touchy);
CREATE DOMAIN datetime AS int CHECK (check_touch(VALUE));
CREATE DOMAIN tinyint AS int CHECK (check_touch(VALUE));
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
