-- Statements to try mcp-database with on PostgreSQL, on the tables of postgres-shop.sql: one a line.
-- A line in double quotes is a JSON string. A header says what must become of those below it: `refused` or `allowed`.

-- == refused: out of the transaction
COMMIT
COMMIT; DROP TABLE book
ROLLBACK; DROP TABLE book; BEGIN
END
ABORT
BEGIN
START TRANSACTION READ WRITE
SELECT 1; COMMIT; DROP TABLE book
SELECT 1; DROP TABLE book
SELECT 1;;DELETE FROM book
COMMIT AND CHAIN
SAVEPOINT a
RELEASE a
PREPARE TRANSACTION 'x'
SET TRANSACTION READ WRITE
SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE
SET default_transaction_read_only = off
SET LOCAL transaction_read_only = off
SET ROLE owner
RESET ALL
DISCARD ALL
ALTER SYSTEM SET work_mem = '1GB'
ALTER ROLE owner SET work_mem = '1GB'
ALTER DATABASE postgres SET work_mem = '1GB'

-- == refused: writes
INSERT INTO touched VALUES (1)
INSERT INTO touched VALUES (1) RETURNING id
UPDATE book SET price = 0
DELETE FROM book
TRUNCATE book CASCADE
DROP TABLE book CASCADE
CREATE TABLE x (a int)
CREATE TEMP TABLE x (a int)
CREATE TABLE x AS SELECT 1
SELECT * INTO x FROM book
SELECT 1 AS a INTO TEMP x
MERGE INTO book USING orders ON false WHEN NOT MATCHED THEN DO NOTHING
WITH x AS (DELETE FROM book RETURNING *) SELECT * FROM x
WITH x AS (INSERT INTO touched VALUES (1) RETURNING *) SELECT * FROM x
WITH x AS (UPDATE book SET price = 0 RETURNING *) SELECT * FROM x
WITH a AS (SELECT 1), b AS (DELETE FROM orders) SELECT * FROM a
SELECT * FROM (WITH x AS (DELETE FROM book RETURNING *) SELECT * FROM x) y
REFRESH MATERIALIZED VIEW sold_once
VACUUM
ANALYZE
REINDEX TABLE book
CLUSTER book
CHECKPOINT
COMMENT ON TABLE book IS 'x'
GRANT ALL ON book TO public
CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'
CREATE EXTENSION lo
CREATE ROLE x SUPERUSER
SECURITY LABEL ON TABLE book IS 'x'
IMPORT FOREIGN SCHEMA x FROM SERVER files INTO public
REASSIGN OWNED BY owner TO owner
DROP OWNED BY owner

-- == refused: locks
SELECT * FROM book FOR UPDATE
SELECT * FROM book FOR NO KEY UPDATE
SELECT * FROM book FOR SHARE
SELECT * FROM book FOR KEY SHARE SKIP LOCKED
SELECT * FROM (SELECT * FROM book FOR UPDATE) x
WITH x AS (SELECT * FROM book FOR UPDATE) SELECT * FROM x
LOCK TABLE book
SELECT pg_advisory_lock(1)
SELECT pg_try_advisory_lock(1)
SELECT pg_advisory_xact_lock(1)
SELECT pg_advisory_unlock_all()

-- == refused: other statements
COPY book TO '/tmp/tollgate-attack-1'
COPY (SELECT 1) TO PROGRAM 'touch /tmp/tollgate-attack-2'
COPY touched FROM PROGRAM 'echo 1'
COPY book TO STDOUT
DO $$ BEGIN PERFORM nextval('counter'); END $$
CALL x()
LOAD 'auto_explain'
LISTEN x
NOTIFY x
UNLISTEN *
PREPARE x AS DELETE FROM book
EXECUTE x
DEALLOCATE ALL
DECLARE c CURSOR FOR SELECT 1
FETCH ALL FROM c
MOVE 1 FROM c
CLOSE ALL
EXPLAIN ANALYZE DELETE FROM book
EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1
EXPLAIN (ANALYZE, COSTS OFF) EXECUTE x
EXPLAIN SELECT 1
SHOW ALL
TABLE book

-- == refused: functions that do more than compute
SELECT nextval('counter')
SELECT setval('counter', 7)
SELECT lastval()
SELECT pg_sleep(10)
SELECT pg_sleep_for('10s')
SELECT pg_sleep_until(now() + interval '1 day')
SELECT set_config('default_transaction_read_only', 'off', false)
SELECT set_config('search_path', 'x', false)
SELECT current_setting('data_directory')
SELECT pg_read_file('/etc/passwd')
SELECT pg_read_binary_file('/etc/passwd')
SELECT pg_ls_dir('/')
SELECT * FROM pg_ls_dir('/')
SELECT pg_stat_file('/etc/passwd')
SELECT * FROM pg_ls_waldir()
SELECT * FROM pg_ls_tmpdir()
SELECT lo_import('/etc/passwd')
SELECT lo_export(1, '/tmp/tollgate-attack-3')
SELECT lo_create(0)
SELECT lo_creat(-1)
SELECT lo_from_bytea(0, 'x')
SELECT lo_put(1, 0, 'x')
SELECT lo_unlink(1)
SELECT lo_get(1)
SELECT lowrite(0, 'x')
SELECT lo_open(1, 131072)
SELECT * FROM dblink('dbname=postgres', 'DROP TABLE x') AS t(a text)
SELECT dblink_connect('dbname=postgres')
SELECT dblink_exec('dbname=postgres', 'CREATE TABLE x (a int)')
SELECT dblink_send_query('a', 'b')
SELECT pg_terminate_backend(1)
SELECT pg_cancel_backend(1)
SELECT pg_reload_conf()
SELECT pg_rotate_logfile()
SELECT pg_switch_wal()
SELECT pg_create_restore_point('x')
SELECT pg_start_backup('x')
SELECT pg_backup_start('x')
SELECT pg_promote()
SELECT pg_wal_replay_pause()
SELECT pg_create_physical_replication_slot('x')
SELECT pg_create_logical_replication_slot('x', 'y')
SELECT pg_drop_replication_slot('x')
SELECT pg_logical_emit_message(false, 'a', 'b')
SELECT pg_export_snapshot()
SELECT txid_current()
SELECT pg_current_xact_id()
SELECT pg_notify('a', 'b')
SELECT pg_stat_reset()
SELECT pg_stat_reset_shared('bgwriter')
SELECT pg_stat_clear_snapshot()
SELECT pg_replication_origin_create('x')
SELECT pg_import_system_collations('public')
SELECT pg_log_backend_memory_contexts(1)
SELECT pg_file_write('/tmp/tollgate-attack-4', 'x', false)
SELECT pg_execute_server_program('x')
SELECT brin_summarize_new_values('x')
SELECT gin_clean_pending_list('x')
SELECT query_to_xml('DROP TABLE book', true, true, '')
SELECT query_to_xmlschema('SELECT nextval(''counter'')', true, true, '')
SELECT table_to_xml('book', true, true, '')
SELECT schema_to_xml('public', true, true, '')
SELECT database_to_xml(true, true, '')
SELECT cursor_to_xml('c', 1, true, true, '')
SELECT * FROM ts_stat('SELECT nextval(''counter'')::text::tsvector')
SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery')
SELECT * FROM crosstab('SELECT nextval(''counter''), 1, 1') AS t(a int, b int)
SELECT * FROM connectby('book', 'id', 'id', '1', 0) AS t(a int, b int, c int)
SELECT inet_server_addr()
SELECT version()
SELECT pg_conf_load_time()
SELECT * FROM pg_hba_file_rules()
SELECT * FROM pg_show_all_settings()
SELECT pg_get_functiondef(1)
SELECT xpath('/a', '<a/>')
SELECT has_table_privilege('book', 'SELECT')
SELECT pg_relation_filepath('book')
SELECT amcheck(1)

-- == refused: by another way of writing
SELECT "nextval"('counter')
SELECT pg_catalog.nextval('counter')
SELECT "pg_catalog"."nextval"('counter')
SELECT NextVal('counter')
SELECT nextval ('counter')
SELECT nextval/**/('counter')
"SELECT nextval\n(\n'counter')"
SELECT U&"next\0076al"('counter')
SELECT * FROM nextval('counter')
SELECT * FROM ROWS FROM (nextval('counter'))
SELECT * FROM LATERAL nextval('counter')
SELECT 1 FROM book, LATERAL (SELECT nextval('counter')) x
SELECT 1 WHERE nextval('counter') > 0
SELECT 1 FROM book ORDER BY nextval('counter')
SELECT 1 FROM book GROUP BY nextval('counter')
SELECT count(*) FROM book HAVING nextval('counter') > 0
SELECT 1 LIMIT nextval('counter')
SELECT 1 OFFSET nextval('counter')
SELECT CASE WHEN nextval('counter') > 0 THEN 1 END
SELECT sum(id) FILTER (WHERE nextval('counter') > 0) FROM book
SELECT sum(id) OVER (ORDER BY nextval('counter')) FROM book
SELECT ARRAY[nextval('counter')]
SELECT (ARRAY[1])[nextval('counter')]
SELECT ROW(nextval('counter'))
SELECT (nextval('counter'))::text
SELECT CAST(nextval('counter') AS text)
SELECT string_agg('a', ',' ORDER BY nextval('counter'))
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY nextval('counter'))
SELECT EXTRACT(year FROM to_timestamp(nextval('counter')))
SELECT substring('a' FROM nextval('counter')::int)
SELECT trim(BOTH nextval('counter')::text FROM 'a')
SELECT position(nextval('counter')::text IN 'a')
SELECT overlay('a' PLACING nextval('counter')::text FROM 1)
SELECT 1 = ANY (ARRAY[nextval('counter')])
SELECT 1 = ANY (SELECT nextval('counter'))
SELECT COALESCE(NULL, nextval('counter'))
SELECT NULLIF(1, nextval('counter'))
SELECT GREATEST(1, nextval('counter'))
VALUES (nextval('counter'))
WITH c AS MATERIALIZED (SELECT nextval('counter')) SELECT * FROM c
WITH RECURSIVE c(n) AS (SELECT nextval('counter') UNION ALL SELECT n FROM c WHERE false) SELECT * FROM c
SELECT 1 UNION SELECT nextval('counter')
SELECT DISTINCT ON (nextval('counter')) 1
SELECT * FROM book JOIN orders ON nextval('counter') > 0
SELECT 'a' || nextval('counter')
SELECT generate_series(1, nextval('counter'))
SELECT interval '1 day' * nextval('counter')
SELECT now() AT TIME ZONE nextval('counter')::text
SELECT jsonb_build_object('a', nextval('counter'))
SELECT 1 OPERATOR(pg_catalog.+) 1
SELECT 'a' OPERATOR(public.<->) 1
SELECT make_interval(days => nextval('counter')::int)

-- == refused: strings and comments that end elsewhere than it seems
SELECT 'a\'; DROP TABLE book; --'
SELECT E'a\'; DROP TABLE book; --
SELECT $$a$$; DROP TABLE book
SELECT $x$ $$ $x$; DROP TABLE book
SELECT /* /* */ 1; DROP TABLE book; -- */
"SELECT 1 -- \r; DROP TABLE book"
SELECT "a""; DROP TABLE book; --
"SELECT 'a'\n'b'; DROP TABLE book"
SELECT U&'a\0027; DROP TABLE book; --'
"SELECT 1\u00a0; DROP TABLE book"
"\ufeffSELECT 1; DROP TABLE book"
SELECT 1) AS q; DROP TABLE book; --
SELECT 1) AS q (c0) UNION SELECT nextval('counter')::text FROM (SELECT 1
SELECT B'1', X'1F'
SELECT E'\x3b DROP TABLE book'
SELECT 1 /*
SELECT '
SELECT $a$
""

-- == refused: what somebody made, which does more than it seems
SELECT touch(1)
SELECT public.touch(1)
SELECT stable_touch(1)
SELECT definer(1)
SELECT tax(1)
SELECT sha224(1)
SELECT "LOWER"('a')
SELECT b.bump FROM book b
SELECT book.bump FROM book
SELECT (b).bump FROM book b
SELECT bump(b) FROM book b
SELECT touch_sum(id) FROM book
SELECT (SELECT b.bump FROM book b LIMIT 1)
SELECT * FROM touching
SELECT count(*) FROM touching
SELECT * FROM outer_touching
SELECT * FROM sleeping
SELECT * FROM locking
SELECT * FROM reading_files
SELECT * FROM public.touching
SELECT * FROM "touching"
TABLE touching
SELECT * FROM hosts
SELECT * FROM over_hosts
SELECT * FROM guarded
SELECT 1::celsius
SELECT CAST(1 AS celsius)
SELECT CAST(id AS public.celsius) FROM book
SELECT 'a'::text <-> 1
SELECT 1::touchy
SELECT touchy '1'
SELECT public.touchy '1'
SELECT "touchy" '1'
SELECT touchy /* */ '1'
SELECT touchy $$1$$
SELECT celsius '(1)'
SELECT '{1}'::touchy[]
SELECT CAST('1' AS public.touchy)
SELECT * FROM json_to_record('{"a":1}') AS x(a touchy)
WITH book AS (SELECT 1) SELECT * FROM touching

-- == refused: what agents may not see
SELECT rolname, rolpassword FROM pg_authid
SELECT * FROM pg_shadow
SELECT * FROM pg_catalog.pg_authid
SELECT * FROM pg_user_mapping
SELECT * FROM pg_user_mappings
SELECT * FROM pg_stat_activity
SELECT * FROM pg_settings
SELECT * FROM pg_hba_file_rules
SELECT * FROM pg_file_settings
SELECT * FROM pg_largeobject
SELECT * FROM pg_stats
SELECT * FROM pg_statistic
SELECT * FROM pg_subscription
SELECT * FROM pg_locks
SELECT * FROM pg_prepared_statements
SELECT * FROM "pg_authid"
SELECT * FROM pg_toast.pg_toast_1255
SELECT * FROM information_schema.user_mapping_options
SELECT * FROM other.public.book
SELECT * FROM pg_config
SELECT * FROM pg_shmem_allocations
SELECT * FROM pg_backend_memory_contexts

-- == allowed
SELECT 1
SELECT * FROM book
SELECT b.* FROM book b
SELECT title AS t, price * 2 AS double FROM book WHERE price > 8 ORDER BY price DESC NULLS LAST LIMIT 5 OFFSET 0
SELECT count(*), count(DISTINCT copies), sum(copies), avg(copies), min(copies), max(copies) FROM orders
SELECT book_id, sum(copies) FROM orders GROUP BY book_id HAVING sum(copies) > 1 ORDER BY 2
SELECT * FROM book JOIN orders ON orders.book_id = book.id
SELECT * FROM book LEFT JOIN orders o ON o.book_id = book.id WHERE o.id IS NULL
SELECT * FROM book FULL OUTER JOIN orders USING (id)
SELECT * FROM book NATURAL JOIN orders
SELECT * FROM book CROSS JOIN orders
SELECT * FROM book b, LATERAL (SELECT count(*) AS n FROM orders WHERE book_id = b.id) x
SELECT * FROM book b LEFT JOIN LATERAL (SELECT * FROM orders WHERE book_id = b.id ORDER BY id LIMIT 1) x ON true
SELECT * FROM sold
SELECT * FROM sold_once
SELECT * FROM public.book
SELECT "id", "title" FROM "public"."book"
WITH a AS (SELECT * FROM book), b AS MATERIALIZED (SELECT * FROM a) SELECT * FROM b
WITH RECURSIVE c(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM c WHERE n < 10) SELECT n FROM c
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS t (x, y)
VALUES (1, 2), (3, 4)
SELECT 1 UNION SELECT 2 UNION ALL SELECT 3 EXCEPT SELECT 4 INTERSECT SELECT 5
(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1
SELECT DISTINCT copies FROM orders
SELECT DISTINCT ON (book_id) book_id, copies FROM orders ORDER BY book_id, copies DESC
SELECT row_number() OVER (ORDER BY id), rank() OVER w, dense_rank() OVER w, percent_rank() OVER w, cume_dist() OVER w, ntile(4) OVER w, lag(copies) OVER w, lead(copies, 1, 0) OVER w FROM orders WINDOW w AS (PARTITION BY book_id ORDER BY copies)
SELECT sum(copies) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), first_value(id) OVER (ORDER BY id), nth_value(id, 2) OVER (ORDER BY id) FROM orders
SELECT sum(copies) FILTER (WHERE copies > 3) FROM orders
SELECT string_agg(title, ', ' ORDER BY title) FROM book
SELECT array_agg(id ORDER BY id DESC) FROM book
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY copies), mode() WITHIN GROUP (ORDER BY copies) FROM orders
SELECT book_id, copies, count(*) FROM orders GROUP BY ROLLUP (book_id, copies)
SELECT book_id, grouping(book_id), count(*) FROM orders GROUP BY CUBE (book_id)
SELECT book_id, copies, count(*) FROM orders GROUP BY GROUPING SETS ((book_id), (copies), ())
SELECT CASE WHEN price > 9 THEN 'dear' WHEN price IS NULL THEN 'unknown' ELSE 'cheap' END FROM book
SELECT CASE copies WHEN 10 THEN 'ten' ELSE 'other' END FROM orders
SELECT coalesce(price, 0), nullif(price, 8), greatest(1, 2), least(1, 2) FROM book
SELECT id::text, price::float8, '2024-01-01'::date, CAST(id AS bigint), CAST('1.5' AS numeric(10, 2)), id::int4 FROM book
SELECT date '2024-01-01', timestamp '2024-01-01 10:00', interval '1 day', timestamptz '2024-01-01 10:00+02', time '10:00'
SELECT now() - interval '1 month', current_date, current_timestamp, localtimestamp
SELECT date_trunc('month', added), date_part('year', added), EXTRACT(epoch FROM added), to_char(added, 'YYYY-MM-DD'), added AT TIME ZONE 'Europe/Berlin', age(added) FROM book
SELECT ordered + 7, ordered - date '2024-01-01', ordered + interval '1 day' FROM orders
SELECT make_date(2024, 1, 2), make_interval(days => 3), date_bin('15 minutes', now(), timestamp '2001-01-01')
SELECT generate_series(1, 3)
SELECT * FROM generate_series(1, 10, 3) AS g(n)
SELECT d::date FROM generate_series(date '2024-01-01', date '2024-01-03', interval '1 day') AS d
SELECT * FROM generate_series(1, 3) WITH ORDINALITY AS t(v, n)
SELECT unnest(tags) FROM book
SELECT t FROM book, unnest(tags) AS t
SELECT * FROM unnest(ARRAY[1, 2], ARRAY['a', 'b']) AS x(a, b)
SELECT tags[1], tags[1:2], array_length(tags, 1), cardinality(tags), tags || 'x'::text, 'novel' = ANY (tags), tags @> ARRAY['novel'], array_to_string(tags, ',') FROM book
SELECT ARRAY[1, 2, 3], ARRAY[[1, 2], [3, 4]], ARRAY(SELECT id FROM book ORDER BY id), '{1,2}'::int[]
SELECT id FROM book WHERE id = ANY ('{1,2}')
SELECT id FROM book WHERE id = ANY (ARRAY[1, 2]) AND id <> ALL (ARRAY[3])
SELECT info -> 'pages', info ->> 'pages', info #> '{pages}', info #>> '{pages}', info @> '{"pages": 474}', jsonb_typeof(info) FROM book
SELECT info ? 'pages', info ?| ARRAY['a', 'pages'] FROM book
SELECT jsonb_build_object('a', 1, 'b', title), to_jsonb(title), row_to_json(b), jsonb_pretty(info) FROM book b
SELECT jsonb_agg(title), json_object_agg(id, title) FROM book
SELECT key, value FROM jsonb_each('{"a": 1, "b": 2}')
SELECT * FROM jsonb_array_elements('[1, 2]') AS e
SELECT * FROM json_to_recordset('[{"a": 1}]') AS x(a int, b text)
SELECT jsonb_path_query(info, '$.pages') FROM book
SELECT info['pages'] FROM book
SELECT * FROM book WHERE title LIKE 'E%' OR title ILIKE '%ma' OR title NOT LIKE '%\_%' OR title SIMILAR TO '(E|P)%'
SELECT * FROM book WHERE title ~ '^E' AND title !~* 'x' OR title ~* 'emma'
SELECT regexp_replace(title, '[aeiou]', '*', 'g'), regexp_matches(title, 'm+'), split_part(title, ' ', 1), substring(title FROM 1 FOR 2), substring(title from '^.') FROM book
SELECT upper(title), lower(title), initcap(title), length(title), char_length(title), trim(title), trim(BOTH 'a' FROM title), ltrim(title, 'E'), left(title, 2), right(title, 2), lpad(title, 10, '.'), repeat('a', 3), reverse(title), replace(title, 'm', 'n'), position('m' IN title), strpos(title, 'm'), overlay(title PLACING 'x' FROM 1 FOR 1), md5(title), concat(title, 1), concat_ws('-', title, id), format('%s-%I', title, 'x'), quote_literal(title), translate(title, 'a', 'b'), ascii(title), chr(65), starts_with(title, 'E') FROM book
SELECT round(price, 1), ceil(price), floor(price), abs(-1), mod(5, 3), power(2, 3), sqrt(4), ln(1), log(10), exp(1), sign(-1), trunc(1.5), random() < 2, pi(), div(7, 2), width_bucket(5, 0, 10, 5), 5 % 3, 2 ^ 3, |/ 4, 5 & 3, 5 | 3, 5 # 3, ~5, 1 << 3 FROM book
SELECT stddev(copies), variance(copies), corr(copies, id), regr_slope(copies, id), bool_and(copies > 1), bool_or(copies > 5), every(true), bit_and(id::int) FROM orders
SELECT * FROM book WHERE id IN (1, 2) AND id NOT IN (SELECT book_id FROM orders WHERE copies > 100)
SELECT * FROM book b WHERE EXISTS (SELECT 1 FROM orders o WHERE o.book_id = b.id)
SELECT (SELECT max(copies) FROM orders), (SELECT title FROM book ORDER BY id LIMIT 1)
SELECT * FROM orders WHERE (book_id, copies) = (1, 10) OR (book_id, copies) IN ((1, 3), (2, 10))
SELECT * FROM orders WHERE copies BETWEEN 1 AND 5 OR copies NOT BETWEEN 2 AND 11
SELECT * FROM orders WHERE copies IS NOT DISTINCT FROM 10 OR (copies > 5) IS TRUE OR (copies > 5) IS NOT UNKNOWN
SELECT * FROM orders FETCH FIRST 2 ROWS ONLY
SELECT * FROM book ORDER BY title COLLATE "C" ASC, id USING <
SELECT 'drop table book; --', 'it''s', 'a\b', E'a\nb', $$it's; $$, $q$ $$ $q$ -- comment; DROP TABLE book
/* DROP TABLE book; /* nested */ */ SELECT 1;
SELECT "select", "from" FROM (SELECT 1 AS "select", 2 AS "from") AS "table"
SELECT 1 AS "a;b", 'x' AS "DROP TABLE"
SELECT * FROM book WHERE title = 'x' OR 1 = 1
SELECT ROW(1, 'a'), (1, 2) = (1, 2), (ROW(1, 2)).f1
SELECT b FROM book b
SELECT to_tsvector('english', title) @@ to_tsquery('english', 'emma'), ts_rank(to_tsvector(title), plainto_tsquery('emma')) FROM book
SELECT int4range(1, 5) @> 3, int4range(1, 5) && int4range(4, 9), lower(int4range(1, 5)), upper(int4range(1, 5)), isempty(int4range(1, 1))
SELECT '192.168.0.1'::inet << '192.168.0.0/16'::inet, host('192.168.0.1'::inet), family('::1'::inet)
SELECT 'happy'::mood, feeling, enum_range(NULL::mood) FROM book
SELECT title::citext = 'EMMA' FROM book
SELECT 'a=>1'::hstore -> 'a'
SELECT gen_random_uuid() IS NOT NULL
SELECT encode(cover, 'hex'), encode(cover, 'base64'), decode('ff', 'hex'), octet_length(cover), sha256(cover) FROM book
SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2
SELECT relname, reltuples FROM pg_class WHERE relkind = 'r'
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = 'book'::regclass
SELECT indexdef FROM pg_indexes WHERE tablename = 'book'
SELECT obj_description('book'::regclass), col_description('book'::regclass, 1), format_type(23, NULL), pg_get_viewdef('sold'::regclass)
SELECT pg_typeof(price), num_nulls(price, cover), current_user, current_database(), current_schema FROM book
SELECT count(*) FILTER (WHERE feeling = 'happy') * 100.0 / count(*) AS percent FROM book
SELECT id, sum(copies) OVER (PARTITION BY book_id ORDER BY id RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM orders
SELECT json_build_object('n', (SELECT count(*) FROM book), 'list', (SELECT json_agg(x) FROM (SELECT id FROM book ORDER BY id) x))
SELECT * FROM book b1 JOIN book b2 ON b1.id < b2.id AND (b1.price > b2.price OR b2.price IS NULL)
SELECT timezone('UTC', now()), to_timestamp(0), to_date('2024', 'YYYY'), to_number('1', '9'), justify_hours(interval '30 hours')

-- == allowed: windows, grouping and ordering
SELECT id, copies, copies - lag(copies, 1, copies) OVER (PARTITION BY book_id ORDER BY id) AS change FROM orders
SELECT *, count(*) OVER () AS total FROM orders ORDER BY id
SELECT id, ntile(4) OVER (ORDER BY copies DESC NULLS LAST), cume_dist() OVER (ORDER BY copies) FROM orders
SELECT id, avg(copies) OVER (ORDER BY id ROWS BETWEEN 6 PRECEDING AND CURRENT ROW) AS moving FROM orders
SELECT id, first_value(copies) OVER w, last_value(copies) OVER w FROM orders WINDOW w AS (ORDER BY id RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
SELECT * FROM (SELECT o.*, row_number() OVER (PARTITION BY book_id ORDER BY copies DESC) AS place FROM orders o) ranked WHERE place = 1
SELECT book_id, ordered, sum(copies) FROM orders GROUP BY GROUPING SETS ((book_id, ordered), (book_id), ()) ORDER BY 1, 2
SELECT book_id, grouping(book_id), sum(copies) FROM orders GROUP BY CUBE (book_id, ordered)
SELECT coalesce(book_id::text, 'all') AS book, sum(copies) FROM orders GROUP BY ROLLUP (book_id)
SELECT date_trunc('month', ordered)::date AS month, count(*) FROM orders GROUP BY 1 ORDER BY 1
SELECT extract(isodow FROM ordered) AS weekday, count(*) FROM orders GROUP BY extract(isodow FROM ordered)
SELECT percentile_cont(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY copies) FROM orders
SELECT mode() WITHIN GROUP (ORDER BY copies), percentile_disc(0.5) WITHIN GROUP (ORDER BY copies) FROM orders
SELECT count(*) FILTER (WHERE copies >= 10) AS large, count(*) FILTER (WHERE copies < 10) AS small FROM orders
SELECT book_id, string_agg(copies::text, ', ' ORDER BY copies DESC) FROM orders GROUP BY book_id
SELECT book_id, array_agg(DISTINCT copies ORDER BY copies) FROM orders GROUP BY book_id HAVING count(*) > 1

-- == allowed: common table expressions and subqueries
WITH monthly AS (SELECT date_trunc('month', ordered) AS month, sum(copies) AS copies FROM orders GROUP BY 1) SELECT month, copies, sum(copies) OVER (ORDER BY month) AS running FROM monthly
WITH RECURSIVE days (day) AS (SELECT date '2024-01-01' UNION ALL SELECT (day + interval '1 day')::date FROM days WHERE day < date '2024-01-10') SELECT day FROM days
WITH RECURSIVE tree (id, path) AS (SELECT id, ARRAY[id] FROM book WHERE id = 1 UNION ALL SELECT b.id, path || b.id FROM book b JOIN tree t ON b.id = t.id + 1) SELECT id, path FROM tree
WITH first AS NOT MATERIALIZED (SELECT * FROM book) SELECT count(*) FROM first
WITH a AS (WITH b AS (SELECT 1 AS x) SELECT x FROM b) SELECT x FROM a
SELECT b.title, (SELECT sum(o.copies) FROM orders o WHERE o.book_id = b.id) AS copies FROM book b
SELECT * FROM book WHERE id = (SELECT book_id FROM orders ORDER BY copies DESC, id LIMIT 1)
SELECT * FROM book WHERE (id, title) IN (SELECT id, title FROM book WHERE price > 8)
SELECT * FROM orders WHERE copies >= ALL (SELECT copies FROM orders)
SELECT * FROM orders WHERE copies > ANY (SELECT avg(copies) FROM orders)
SELECT * FROM orders WHERE book_id = ANY ('{1,2}'::int[])
SELECT b.id, x.n FROM book b CROSS JOIN LATERAL (SELECT count(*) AS n FROM orders o WHERE o.book_id = b.id) AS x WHERE x.n > 0
SELECT b.id, tag FROM book b, unnest(b.tags) AS tag
SELECT b.id, t.tag, t.place FROM book b CROSS JOIN LATERAL unnest(b.tags) WITH ORDINALITY AS t (tag, place)
SELECT d::date FROM generate_series(date '2024-01-01', date '2024-01-31', interval '1 week') AS d
SELECT g.n, count(o.id) FROM generate_series(1, 5) AS g (n) LEFT JOIN orders o ON o.book_id = g.n GROUP BY g.n ORDER BY g.n
SELECT * FROM (SELECT 1 AS a) x JOIN (SELECT 1 AS a) y USING (a)
SELECT count(*) FROM (SELECT DISTINCT book_id FROM orders) AS d
SELECT EXISTS (SELECT FROM orders WHERE copies > 5)
(SELECT id FROM book ORDER BY id LIMIT 1) UNION ALL (SELECT id FROM orders ORDER BY id DESC LIMIT 1)
SELECT id FROM book INTERSECT ALL SELECT book_id FROM orders
SELECT id FROM book EXCEPT SELECT book_id FROM orders ORDER BY id

-- == allowed: json, arrays, ranges, text search
SELECT info->>'pages', (info->'pages')::int + 1, info #>> '{pages}' FROM book
SELECT id FROM book WHERE info ? 'pages'
SELECT id FROM book WHERE info @> '{"pages": 474}' OR info ?| array['a', 'b'] OR info ?& array['a']
SELECT jsonb_object_keys(info) FROM book WHERE jsonb_typeof(info) = 'object'
SELECT key, value FROM book, jsonb_each(info) WHERE jsonb_typeof(info) = 'object'
SELECT key, value FROM jsonb_each_text('{"a": 1, "b": "x"}')
SELECT x.a, x.b FROM jsonb_to_recordset('[{"a": 1, "b": "x"}]') AS x (a int, b text)
SELECT jsonb_agg(jsonb_build_object('id', id, 'title', title) ORDER BY id) FROM book
SELECT jsonb_path_query_array('[1, 2, 3]', '$[*] ? (@ > 1)')
SELECT info @? '$.pages ? (@ > 400)', info @@ '$.pages > 400' FROM book
SELECT jsonb_set('{"a": 1}', '{a}', '2'), '{"a": 1}'::jsonb || '{"b": 2}', '{"a": 1}'::jsonb - 'a', '{"a": {"b": 1}}'::jsonb #- '{a,b}'
SELECT row_to_json(b) FROM book b
SELECT to_jsonb(o) ->> 'copies' FROM orders o
SELECT tags[1], tags[1:2], array_length(tags, 1), cardinality(tags), 'novel' = ANY (tags), tags @> ARRAY['novel'], tags && ARRAY['x'] FROM book
SELECT array_position(tags, 'novel'), array_to_string(tags, ';', '-'), array_remove(tags, 'x'), tags || 'y'::text FROM book
SELECT ARRAY(SELECT id FROM book ORDER BY id)
SELECT daterange('2024-01-01', '2024-02-01') @> ordered FROM orders
SELECT tsrange('2024-01-01', '2024-01-02') * tsrange('2024-01-01 12:00', '2024-01-03'), numrange(1, 2, '[]') && numrange(2, 3, '(]')
SELECT title FROM book WHERE to_tsvector('simple', title) @@ websearch_to_tsquery('simple', 'emma or persuasion')
SELECT ts_headline('english', title, to_tsquery('emma')) FROM book
SELECT title, similarity FROM (SELECT title, length(title)::float / 10 AS similarity FROM book) s

-- == allowed: types, dates, text, numbers
SELECT now() - interval '30 days', now()::date - 7, age(timestamp '2024-01-01'), date_part('epoch', now()) > 0, clock_timestamp() > now()
SELECT ordered + 1, ordered - date '2024-01-01', ordered + time '10:00', ordered::timestamp AT TIME ZONE 'Europe/Berlin' FROM orders
SELECT to_char(ordered, 'YYYY-MM-DD'), to_char(1234.5, '9,999.99'), to_char(interval '90 minutes', 'HH24:MI') FROM orders
SELECT make_date(2024, 2, 29), make_interval(days => 3), make_timestamptz(2024, 1, 1, 0, 0, 0, 'UTC'), date_bin('15 minutes', now(), timestamptz '2024-01-01') IS NOT NULL
SELECT (date '2024-01-01', date '2024-02-01') OVERLAPS (date '2024-01-15', date '2024-03-01')
SELECT CASE WHEN price IS NULL THEN 'none' WHEN price < 9 THEN 'low' ELSE 'high' END AS band, count(*) FROM book GROUP BY 1
SELECT CASE feeling WHEN 'happy' THEN 1 WHEN 'sad' THEN -1 ELSE 0 END FROM book
SELECT coalesce(price, 0)::numeric(12, 4), nullif(title, ''), greatest(1, 2, 3), least('a', 'b') FROM book
SELECT title || ' (' || coalesce(price::text, '?') || ')' FROM book
SELECT title FROM book WHERE title LIKE '100\%%' ESCAPE '\' OR title LIKE 'x!_%' ESCAPE '!'
SELECT title FROM book WHERE lower(title) LIKE ANY (ARRAY['e%', 'p%'])
SELECT regexp_split_to_table('a,b;c', '[,;]'), regexp_match('abc', '(b)(c)')
SELECT string_to_array('a,b', ','), split_part('a@b', '@', 2), substring('abc' FROM 2), substring('abc' FOR 2), left('abc', -1)
SELECT encode(sha256('x'::bytea), 'hex'), md5('x'), get_byte('\x01'::bytea, 0), length(cover) FROM book
SELECT round(avg(price), 2), trunc(1.99), ceiling(1.1), 7 / 2, 7 % 2, -7 / 2.0, 2 ^ 10, @ -5, 1e3, 0.1 + 0.2 FROM book
SELECT width_bucket(price, 0, 20, 4), count(*) FROM book GROUP BY 1
SELECT b.code::text, '0198c0de-0000-7000-8000-000000000001'::uuid = b.code FROM book b
SELECT true AND NOT false, NULL IS NULL, 1 <> 2, 1 != 2, 1 IS DISTINCT FROM NULL
SELECT inet '10.0.0.1/8', cidr '10.0.0.0/8', macaddr '08:00:2b:01:02:03', point '(1,2)', money '1.50', bit '101', xml '<a/>' IS NOT NULL

SELECT '1'::positive, CAST('2' AS positive)

-- == allowed: names, comments, text that looks like a statement
SELECT 'drop table book', 'DELETE FROM book;', 'it''s; -- not a comment', '/* nor this */'
SELECT "b"."title" AS "select", b.price AS "order", b.id AS "user" FROM "book" AS "b"
SELECT id AS "update", title AS "delete" FROM book WHERE title <> 'insert into x' ORDER BY "update"
SELECT id AS value, title AS name, price AS type, added AS date FROM book
SELECT b.id FROM book b WHERE b.title = 'O''Brien' OR b.title = $$O'Brien$$ OR b.title = 'a"b'
"-- what was sold; DROP TABLE book\nSELECT * FROM sold"
/* DELETE FROM book */ SELECT /* inner /* nested */ */ count(*) FROM book -- done
"SELECT id -- the key\n     , title -- the name; really\nFROM book\nWHERE id > 0\n  AND (title = 'a' OR title = 'b' OR 1 = 1)\n;\n"
SELECT title FROM book WHERE title ILIKE '%create%' OR title ILIKE '%grant all%' OR title ~ 'set|reset|copy'
SELECT column_name FROM information_schema.columns WHERE table_name = 'book' AND column_name IN ('update', 'delete', 'id')
SELECT copies AS set, id AS "table", book_id AS "column" FROM orders
SELECT 1 AS commit, 2 AS copy, 3 AS lock, 4 AS call, 5 AS vacuum
SELECT count(*) AS "total; DROP TABLE book" FROM orders

-- == allowed: attributes
SELECT (id).abs, (title).length, ('A'::text).lower FROM book
SELECT f.value, f.place FROM json_array_elements_text('["x"]') WITH ORDINALITY AS f (value, place)
SELECT e.key, e.value, (e).value FROM json_each_text('{"a": 1}') e
SELECT f.name, f.date, g.g FROM (SELECT 'x' AS name, DATE '2024-01-01' AS date) f, generate_series(1, 2) g
SELECT x.system, x.mode, x.version, x.size FROM (SELECT 1 AS system, 2 AS mode, 3 AS version, 4 AS size) x
SELECT (ROW(1, 'a')).f1, (ROW(1, ROW(2, 3))).f2
-- == refused: more ways out of the transaction
COMMIT PREPARED 'x'
ROLLBACK TO SAVEPOINT a
ROLLBACK AND NO CHAIN
BEGIN READ WRITE; DROP TABLE book; COMMIT
END; DROP TABLE book
SET SESSION AUTHORIZATION DEFAULT
SET CONSTRAINTS ALL DEFERRED
SET search_path TO pg_temp
RESET ROLE
SELECT 1 \; DROP TABLE book
SELECT 1 \g
\copy book TO '/tmp/tollgate-attack-9'
EXPLAIN (ANALYZE) DELETE FROM book
EXPLAIN (ANALYZE true, BUFFERS) INSERT INTO touched VALUES (1)
EXPLAIN ANALYZE SELECT nextval('counter')
EXPLAIN ANALYZE EXECUTE x
EXPLAIN ANALYZE CREATE MATERIALIZED VIEW x AS SELECT 1
EXPLAIN ANALYZE WITH x AS (DELETE FROM book RETURNING *) SELECT * FROM x
CREATE OR REPLACE VIEW sold AS SELECT 1
CREATE UNLOGGED TABLE x (a int)
CREATE SCHEMA x CREATE TABLE y (a int)
CREATE RULE x AS ON INSERT TO touched DO INSTEAD NOTHING
CREATE EVENT TRIGGER x ON ddl_command_end EXECUTE FUNCTION touch()
CREATE PUBLICATION x FOR ALL TABLES
CREATE SUBSCRIPTION x CONNECTION 'dbname=postgres' PUBLICATION x
CREATE PROCEDURE x() LANGUAGE sql AS 'DELETE FROM book'
ALTER TABLE book DISABLE TRIGGER ALL
ALTER SEQUENCE counter RESTART
ALTER FUNCTION touch(int) STABLE
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO public
ALTER LARGE OBJECT 1 OWNER TO owner
DROP DATABASE postgres
DROP SCHEMA public CASCADE
COPY (DELETE FROM book RETURNING *) TO STDOUT
COPY (SELECT 1) TO '/tmp/tollgate-attack-10' WITH (FORMAT csv)
DO LANGUAGE plpgsql 'BEGIN DELETE FROM book; END'
WITH x AS (MERGE INTO book USING orders ON false WHEN NOT MATCHED THEN DO NOTHING RETURNING 1) SELECT * FROM x
WITH x AS MATERIALIZED (DELETE FROM book RETURNING id) SELECT * FROM x
WITH RECURSIVE x AS (UPDATE book SET price = 1 RETURNING id) SELECT * FROM x
SELECT * FROM orders WHERE id IN (WITH x AS (DELETE FROM orders RETURNING id) SELECT id FROM x)
SELECT (WITH x AS (INSERT INTO touched VALUES (1) RETURNING id) SELECT id FROM x)
INSERT INTO touched VALUES (1) ON CONFLICT DO NOTHING
SELECT 1 INTO TEMPORARY TABLE x
SELECT 1 AS a INTO UNLOGGED x
(SELECT * INTO x FROM book)
SELECT * FROM book FOR UPDATE OF book NOWAIT
SELECT * FROM book b FOR SHARE OF b
(SELECT * FROM book) FOR UPDATE
SELECT * FROM book ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
SELECT 1 UNION SELECT 2 FOR UPDATE

-- == refused: more functions that reach out
SELECT pg_catalog.pg_sleep(10)
SELECT * FROM pg_sleep(10)
SELECT 1 FROM pg_sleep(10)
SELECT * FROM book, pg_sleep(10)
SELECT * FROM book JOIN LATERAL pg_sleep(price::float) ON true
SELECT pg_read_file('postgresql.conf', 0, 100)
SELECT * FROM pg_read_file('/etc/passwd')
SELECT convert_from(pg_read_binary_file('/etc/passwd'), 'UTF8')
SELECT * FROM pg_ls_logdir()
SELECT * FROM pg_ls_archive_statusdir()
SELECT * FROM pg_ls_replslotdir('x')
SELECT pg_current_logfile()
SELECT pg_relation_size('book')
SELECT currval('counter')
SELECT pg_sequence_last_value('counter')
SELECT lo_truncate(0, 0)
SELECT lo_lseek(0, 0, 0)
SELECT loread(0, 10)
SELECT lo_close(0)
SELECT lo_tell(0)
SELECT pg_logical_slot_get_changes('x', NULL, NULL)
SELECT * FROM pg_logical_slot_peek_changes('x', NULL, NULL)
SELECT pg_replication_slot_advance('x', '0/0')
SELECT pg_replication_origin_session_setup('x')
SELECT pg_copy_physical_replication_slot('x', 'y')
SELECT pg_wal_replay_resume()
SELECT pg_backup_stop()
SELECT pg_advisory_lock_shared(1)
SELECT pg_try_advisory_xact_lock(1, 2)
SELECT pg_advisory_unlock(1)
SELECT pg_blocking_pids(1)
SELECT pg_stat_reset_single_table_counters('book'::regclass)
SELECT pg_stat_reset_slru('x')
SELECT pg_stat_force_next_flush()
SELECT pg_stat_get_activity(NULL)
SELECT * FROM pg_stat_get_backend_idset()
SELECT pg_get_backend_memory_contexts()
SELECT * FROM pg_lock_status()
SELECT pg_cursor()
SELECT * FROM pg_cursor()
SELECT * FROM pg_prepared_statement()
SELECT * FROM pg_available_extensions()
SELECT * FROM pg_config()
SELECT inet_client_addr(), inet_server_port()
SELECT pg_postmaster_start_time()
SELECT pg_is_in_recovery()
SELECT pg_control_system()
SELECT pg_nextoid('pg_class', 'oid', 'pg_class_oid_index')
SELECT binary_upgrade_set_next_pg_type_oid(1)
SELECT ts_stat('SELECT 1')
SELECT ts_rewrite('a'::tsquery, 'SELECT target, sub FROM t')
SELECT query_to_xml_and_xmlschema('SELECT 1', true, true, '')
SELECT table_to_xml_and_xmlschema('book', true, true, '')
SELECT cursor_to_xmlschema('c', true, true, '')
SELECT xmlparse(DOCUMENT '<a/>')
SELECT * FROM XMLTABLE('/a' PASSING '<a/>' COLUMNS b text)
SELECT xmlelement(name a)
SELECT xpath_exists('/a', '<a/>')
SELECT crosstab('SELECT 1, 1, 1')
SELECT * FROM crosstab2('SELECT nextval(''counter'')::text, ''a'', ''b''')
SELECT * FROM crosstab_hash('SELECT 1', 'SELECT nextval(''counter'')')
SELECT normal_rand(1, 1, 1)
SELECT dblink('dbname=postgres', 'SELECT 1')
SELECT * FROM public.dblink('dbname=postgres', 'DROP TABLE x') AS t (a int)
SELECT dblink_get_connections()
SELECT dblink_open('c', 'SELECT 1')
SELECT dblink_connect_u('x', 'dbname=postgres')
SELECT file_fdw_handler()
SELECT postgres_fdw_disconnect_all()
SELECT lo_manage()
SELECT txid_current_if_assigned()
SELECT txid_status(1)
SELECT pg_snapshot_xmin(pg_current_snapshot())
SELECT has_function_privilege('touch(int)', 'EXECUTE')
SELECT has_database_privilege('postgres', 'CREATE')
SELECT pg_has_role('owner', 'MEMBER')
SELECT current_setting('is_superuser')
SELECT current_setting('server_version', true)
SELECT pg_get_function_result(1)
SELECT pg_get_triggerdef(1)
SELECT pg_get_ruledef(1)
SELECT getdatabaseencoding()
SELECT setseed(0.5)
SELECT record_out(b) FROM book b
SELECT domain_in('1', 1, 1)
SELECT regclassin('book')
SELECT int4pl(1, 2)
SELECT array_in('{1}', 23, -1)
SELECT plpgsql_call_handler()
SELECT fmgr_sql_validator(1)
SELECT pg_event_trigger_dropped_objects()
SELECT suppress_redundant_updates_trigger()
SELECT RI_FKey_check_ins()
SELECT pg_collation_actual_version(1)
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
SELECT unknown_function(1)
SELECT public.unknown_function(1)
SELECT other.touch(1)
SELECT shop.public.touch(1)

-- == refused: more ways of writing them
SELECT pg_catalog . nextval ( 'counter' )
SELECT PG_CATALOG.NEXTVAL('counter')
SELECT "nextval" ('counter')
SELECT U&"\006eextval"('counter')
SELECT U&'\0027'
SELECT n\u0065xtval('counter')
"SELECT nextval\t('counter')"
"SELECT nextval -- \n ('counter')"
SELECT ALL nextval('counter')
SELECT DISTINCT nextval('counter')
SELECT * FROM (VALUES (nextval('counter'))) v
SELECT * FROM unnest(ARRAY[nextval('counter')])
SELECT * FROM generate_series(1, nextval('counter')) g
SELECT * FROM ROWS FROM (generate_series(1, 2), nextval('counter')) g
SELECT * FROM book TABLESAMPLE SYSTEM (nextval('counter'))
SELECT * FROM book TABLESAMPLE BERNOULLI (50) REPEATABLE (nextval('counter'))
SELECT sum(1) OVER (PARTITION BY nextval('counter'))
SELECT sum(1) OVER (ORDER BY id ROWS nextval('counter') PRECEDING) FROM book
SELECT sum(1) OVER w FROM book WINDOW w AS (ORDER BY nextval('counter'))
SELECT 1 FROM book GROUP BY ROLLUP (nextval('counter'))
SELECT 1 FROM book GROUP BY GROUPING SETS ((nextval('counter')))
SELECT 1 FETCH FIRST (nextval('counter')) ROWS ONLY
SELECT 1 FETCH FIRST nextval('counter') ROWS WITH TIES
SELECT json_agg(1 ORDER BY nextval('counter'))
SELECT format('%s', nextval('counter'))
SELECT 'x' LIKE nextval('counter')::text
SELECT 'x' ~ nextval('counter')::text
SELECT 'x' SIMILAR TO nextval('counter')::text
SELECT 'x' COLLATE "C" < nextval('counter')::text
SELECT 1 IS DISTINCT FROM nextval('counter')
SELECT nextval('counter') IS NULL
SELECT nextval('counter') BETWEEN 1 AND 2
SELECT 1 IN (nextval('counter'))
SELECT NOT nextval('counter') > 1
SELECT - nextval('counter')
SELECT (SELECT nextval('counter'))
SELECT EXISTS (SELECT nextval('counter'))
SELECT ARRAY(SELECT nextval('counter'))
SELECT (ROW(1, nextval('counter'))).f2
SELECT (touch(1))
SELECT (b).bump, (b.*).bump FROM book b
SELECT (SELECT b).bump FROM book b
SELECT (ROW(b.*)::book).bump FROM book b
SELECT b."bump" FROM book b
SELECT public.book.bump FROM public.book
SELECT ('(1,a,,,,,,,)'::book).bump
SELECT x.bump FROM (SELECT b FROM book b) y, LATERAL (SELECT (y.b).*) x, LATERAL (SELECT (y.b).bump) z
SELECT CAST('nextval' AS regproc)('counter')
SELECT interval 'x' + nextval('counter')
SELECT date_trunc(nextval('counter')::text, now())
SELECT extract(epoch FROM now() + nextval('counter') * interval '1s')
SELECT concat(VARIADIC ARRAY[nextval('counter')::text])
SELECT touch(i => 1)
SELECT touch(i := 1)
SELECT 'a' OPERATOR(pg_catalog.||) 'b'
SELECT 'a'::text OPERATOR(public.<->) 1
SELECT * FROM book WHERE id = 1 AND EXISTS (SELECT * FROM touching)
SELECT * FROM ONLY touching
SELECT * FROM ONLY pg_authid
SELECT * FROM ONLY pg_shadow
SELECT * FROM only hosts
SELECT * FROM ONLY (pg_authid)
SELECT * FROM book, ONLY pg_authid
SELECT * FROM book JOIN ONLY pg_authid ON true
SELECT * FROM book WHERE EXISTS (SELECT FROM ONLY touching)
SELECT * FROM (TABLE pg_authid) x
SELECT EXISTS (TABLE touching)
SELECT (ARRAY[1, 2])[nextval('counter'):2], (ARRAY[1, 2])[1:nextval('counter')]
SELECT '(1)'::holding
SELECT ARRAY['(1)']::holding[]
SELECT '1'::finer
SELECT '1'::datetime
SELECT CAST('1' AS tinyint)
SELECT datetime '1'
SELECT title FROM book WHERE title LIKE ANY (ARRAY[touch(1)::text])
SELECT touching FROM touching
SELECT count(touching.*) FROM touching
SELECT * FROM book UNION SELECT * FROM touching
WITH x AS (SELECT * FROM touching) SELECT 1
WITH touching AS (SELECT * FROM touching) SELECT * FROM touching
SELECT * FROM guarded WHERE id = 1
SELECT count(*) FROM ONLY guarded
SELECT (1::celsius).degrees
SELECT ARRAY[1]::celsius[]
SELECT NULL::touchy
SELECT json_populate_record(NULL::celsius, '{}')
SELECT json_populate_recordset(NULL::book, '[]')
SELECT * FROM jsonb_to_record('{"a":1}') AS x (a touchy)
SELECT jsonb_populate_record(NULL::touchy, '{}')
SELECT 1 AS a, 2 AS b, pg_sleep(1) AS c
SELECT pg_sleep(1), 1 UNION ALL SELECT 1, 2
SELECT 'x'; SELECT pg_sleep(1)
"SELECT 1\u2028; DROP TABLE book"
"SELECT 1\u0000; DROP TABLE book"
"SELECT 'a\u0000'"
SELECT 'é' || E'\u0027; DROP TABLE book; --'
SELECT E'\'; DROP TABLE book; --'; DROP TABLE book
SELECT $$ $$ || $a$ $$ $a$; DROP TABLE book
SELECT $tag$ $tag $tag$; DROP TABLE book
SELECT 1 /* -- */; DROP TABLE book
"SELECT 1 -- /*\n; DROP TABLE book -- */"
SELECT '\'; DROP TABLE book; --'
SELECT x'27' || '; DROP TABLE book', b'1'; DROP TABLE book
SELECT 1 AS "a"";"; DROP TABLE book
SELECT 1) q (c0); DROP TABLE book; SELECT * FROM (SELECT 1
SELECT 1) UNION SELECT pg_sleep(1)::text::int --
SELECT 1 WHERE 1 = 1) AS q, LATERAL (SELECT pg_sleep(1)

-- == refused: calls without a name in the statement
SELECT '{9}'::touchy ARRAY
SELECT CAST('{9}' AS touchy ARRAY[3])
SELECT cbrt('5')
SELECT "cbrt"(id) FROM book
SELECT b.good_book FROM book b
SELECT a = '{5}' FROM with_touchy
SELECT coalesce(a, '{5}') FROM with_touchy
SELECT id FROM with_touchy WHERE a @> '{7}'
SELECT * FROM over_touchy
SELECT * FROM statistics
SELECT rolpassword FROM passwords
-- == refused: calls in the place of an attribute
SELECT (1).touch
SELECT (id).touch FROM book
SELECT id FROM book ORDER BY (id).touch
SELECT (1).stable_touch
SELECT (1).definer
SELECT ('x'::text)."LOWER"
SELECT (1).sha224
SELECT (1).to_celsius
SELECT (1).celsius
SELECT (1.5::float8).pg_sleep
SELECT (10).pg_sleep
SELECT id FROM book WHERE (0.1::float8).pg_sleep IS NULL
SELECT (77::bigint).pg_advisory_lock
SELECT (77::bigint).pg_try_advisory_xact_lock
SELECT ('counter'::regclass).nextval
SELECT ('counter').nextval
SELECT (0).lo_creat
SELECT (0.5).setseed
SELECT ('/etc/passwd'::text).pg_read_file
SELECT ('/etc'::text).pg_ls_dir
SELECT (ARRAY['/etc/passwd'])[1].pg_read_file
SELECT a[1].pg_read_file FROM (SELECT ARRAY['/etc/passwd'] AS a) x
SELECT (NULL::int).pg_stat_get_activity
SELECT (pid).pg_cancel_backend FROM (SELECT 0 AS pid) x
SELECT (pid).pg_terminate_backend FROM (SELECT 0 AS pid) x
SELECT ('bgwriter'::text).pg_stat_reset_shared
SELECT f.pg_read_file FROM unnest(ARRAY['/etc/passwd']) f
SELECT f.pg_sleep FROM generate_series(1, 2) f
SELECT generate_series.pg_sleep FROM generate_series(1, 2)
SELECT f.touch FROM generate_series(1, 2) f
SELECT f.nextval FROM regexp_split_to_table('counter', ',') f
SELECT f.pg_read_file FROM json_array_elements_text('["/etc/passwd"]') f
SELECT x.a FROM (SELECT f.lo_creat AS a FROM generate_series(1, 2) f) x
SELECT f.pg_read_file FROM book b, LATERAL unnest(ARRAY['/etc/passwd']) f
WITH a AS (SELECT u FROM unnest(ARRAY['/etc/passwd']) u) SELECT (a.u).pg_read_file FROM a
-- == refused: more that agents may not see
SELECT usename, passwd FROM pg_catalog.pg_shadow
SELECT * FROM pg_user
SELECT * FROM pg_roles
SELECT * FROM pg_auth_members
SELECT * FROM pg_group
SELECT * FROM pg_db_role_setting
SELECT * FROM pg_foreign_server
SELECT * FROM pg_stat_ssl
SELECT * FROM pg_stat_replication
SELECT * FROM pg_stat_subscription
SELECT * FROM pg_stat_wal_receiver
SELECT * FROM pg_stat_progress_vacuum
SELECT * FROM pg_replication_slots
SELECT * FROM pg_ident_file_mappings
SELECT * FROM pg_cursors
SELECT * FROM pg_prepared_xacts
SELECT * FROM pg_seclabels
SELECT * FROM pg_statistic_ext_data
SELECT * FROM pg_stats_ext
SELECT * FROM pg_largeobject_metadata
SELECT * FROM pg_toast.pg_toast_2619
SELECT * FROM pg_temp.x
SELECT * FROM PG_CATALOG.PG_AUTHID
SELECT * FROM book, pg_authid
SELECT (SELECT rolpassword FROM pg_authid LIMIT 1)
SELECT pg_authid FROM pg_authid
SELECT count(*) FROM pg_authid
SELECT * FROM information_schema.foreign_server_options
SELECT * FROM information_schema._pg_user_mappings
SELECT * FROM information_schema.sql_features
TABLE pg_authid
