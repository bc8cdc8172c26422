-- Statements to try mcp-database with on SQLite, on the tables of sqlite-shop.sql: one a line.
-- A line in double quotes is a JSON string. A header says what must become of those below it: `refused` or `allowed`.

-- == refused
DROP TABLE orders
drop table orders
"  /* x */ DROP TABLE orders"
"-- SELECT\nDROP TABLE orders"
INSERT INTO t VALUES (1)
INSERT INTO t SELECT * FROM t
REPLACE INTO t VALUES (1)
UPDATE t SET a = 1
UPDATE t SET a = 1 RETURNING a
DELETE FROM t
DELETE FROM t RETURNING *
TRUNCATE TABLE t
MERGE INTO t USING u ON 1 WHEN MATCHED THEN DELETE
CREATE TABLE x (a)
CREATE TABLE x AS SELECT * FROM t
CREATE TEMP TABLE x AS SELECT * FROM t
CREATE VIEW x AS SELECT 1
CREATE INDEX x ON t (a)
CREATE VIRTUAL TABLE x USING fts5(a)
ALTER TABLE t RENAME TO x
ALTER TABLE t ADD COLUMN x
PRAGMA user_version = 7
PRAGMA query_only = 0
PRAGMA writable_schema = 1
PRAGMA journal_mode = DELETE
PRAGMA table_info(t)
PRAGMA database_list
PRAGMA wal_checkpoint(TRUNCATE)
ATTACH 'y.db' AS y
ATTACH DATABASE 'file:y.db?mode=rwc' AS y
DETACH main
VACUUM
VACUUM INTO 'z.db'
REINDEX
ANALYZE
BEGIN
BEGIN EXCLUSIVE
COMMIT
END
ROLLBACK
SAVEPOINT x
RELEASE x
EXPLAIN SELECT 1
EXPLAIN QUERY PLAN SELECT 1
EXPLAIN DELETE FROM t
SET x = 1
COPY t TO '/tmp/x'
CALL x()
LOAD 'x'
WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x
WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x
WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x
WITH x AS (SELECT 1) DELETE FROM t
WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x
WITH x AS (SELECT 1) UPDATE t SET a = 1
WITH RECURSIVE x AS (SELECT 1) DELETE FROM t
SELECT * INTO x FROM t
SELECT a INTO OUTFILE '/tmp/x' FROM t
SELECT * FROM t FOR UPDATE
SELECT * FROM t FOR SHARE
SELECT 1; DROP TABLE t
SELECT 1;DROP TABLE t;--
SELECT 1; SELECT 2
SELECT ';'; DROP TABLE t
SELECT 1; /* x */ DROP TABLE t
"SELECT 1 --\n; DROP TABLE t"
SELECT "a;"; DROP TABLE t
SELECT [;]; DROP TABLE t
SELECT `;`; DROP TABLE t
SELECT 'a\'; DROP TABLE t; --'
SELECT 'it''s'; DELETE FROM t
SELECT /* /* */ 1; DROP TABLE t /* */ */
;DROP TABLE t
; ; DROP TABLE t
COMMIT; DROP TABLE t
BEGIN; DELETE FROM t; END
CREATE TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM t; END
""
" "
;
-- x
/* x */
hello
SELECT
SELECT FROM
SELECT 'a
SELECT "a
SELECT [a
SELECT `a
SELECT 1 /* a
SELECT /* /* */ 1 */
"SELECT 1\u0000; DROP TABLE t"
"SELECT 1 \u0000"
"SELECT\u00a01"
"\ufeffSELECT 1"
"SELECT\u000b1"
"SELECT 1\u3000; DROP TABLE t"
"SELECT\u200b 1"
SELECT $$a$$
SELECT $a
SELECT :a
SELECT @a
SELECT $1(DROP TABLE t)
SELECT a::int FROM t
SELECT * FROM t@x
SELECT TOP 1 * FROM t
SELECT * FROM t FETCH FIRST 1 ROW ONLY
SELECT * FROM t QUALIFY 1
SELECT * FROM LATERAL (SELECT 1)
SELECT * FROM UNNEST(a)
TABLE t
FROM t
SELECT load_extension('x')
SELECT LOAD_EXTENSION('x', 'y')
SELECT "load_extension"('x')
SELECT [load_extension]('x')
SELECT `Load_Extension`('x')
SELECT load_extension ('x')
SELECT load_extension/**/('x')
SELECT 1 FROM t WHERE load_extension('x')
SELECT 1 FROM t ORDER BY load_extension('x')
SELECT 1 FROM t GROUP BY load_extension('x')
SELECT 1 FROM t GROUP BY a HAVING load_extension('x')
SELECT 1 LIMIT load_extension('x')
SELECT 1 LIMIT 1 OFFSET load_extension('x')
SELECT 1 FROM t JOIN u ON load_extension('x')
SELECT CASE WHEN load_extension('x') THEN 1 END
SELECT CASE load_extension('x') WHEN 1 THEN 1 END
SELECT sum(a) FILTER (WHERE load_extension('x')) FROM t
SELECT sum(a) OVER (ORDER BY load_extension('x')) FROM t
SELECT sum(a) OVER w FROM t WINDOW w AS (PARTITION BY load_extension('x'))
SELECT * FROM (SELECT load_extension('x'))
SELECT (SELECT load_extension('x'))
SELECT EXISTS (SELECT load_extension('x'))
SELECT 1 IN (SELECT load_extension('x'))
SELECT 1 IN (1, load_extension('x'))
SELECT 1 UNION SELECT load_extension('x')
WITH c AS (SELECT load_extension('x')) SELECT 1
VALUES (load_extension('x'))
SELECT abs(load_extension('x'))
SELECT CAST(load_extension('x') AS TEXT)
SELECT load_extension('x') COLLATE nocase
SELECT 1 BETWEEN load_extension('x') AND 2
SELECT 'a' LIKE 'b' ESCAPE load_extension('x')
SELECT trim(load_extension('x'))
SELECT substr(load_extension('x'), 1)
SELECT value FROM json_each(load_extension('x'))
SELECT -load_extension('x')
SELECT (1, load_extension('x')) = (1, 1)
SELECT writefile('x', 'y')
SELECT readfile('/etc/passwd')
SELECT edit('x', 'y')
SELECT fts3_tokenizer('simple')
SELECT optimize(f) FROM f
SELECT sqlite_compileoption_get(0)
SELECT sqlite_version()
SELECT changes()
SELECT last_insert_rowid()
SELECT pg_sleep(10)
SELECT trim('a', (SELECT b FROM t))
SELECT rtrim('a', b) FROM t
SELECT unhex('00', b) FROM t
SELECT * FROM pragma_database_list()
SELECT * FROM pragma_user_version(7)
SELECT * FROM pragma_wal_checkpoint('main')
SELECT * FROM pragma_journal_mode('delete')
SELECT * FROM generate_series(1, 10)
SELECT * FROM fsdir('/')
SELECT * FROM "fsdir"('/')
SELECT * FROM pragma_database_list
SELECT file FROM Pragma_Database_List
SELECT * FROM "pragma_database_list"
SELECT * FROM main.pragma_module_list
SELECT * FROM t JOIN pragma_function_list
SELECT 1 IN (SELECT file FROM pragma_database_list)
SELECT * FROM dbstat
SELECT * FROM sqlite_dbpage
SELECT * FROM sqlite_stmt
SELECT * FROM temp.sqlite_schema
SELECT * FROM other.t
/* SELECT */ DELETE FROM orders
INSERT INTO orders VALUES (9, 9, 9) RETURNING id
UPDATE orders SET copies = 0
REPLACE INTO orders VALUES (1, 1, 1)
CREATE TABLE x AS SELECT 1
CREATE TEMP TABLE x (a)
ALTER TABLE orders RENAME TO x
ATTACH DATABASE 'pwned.db' AS x
VACUUM INTO 'pwned.db'
WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x
WITH x AS (SELECT 1) DELETE FROM orders
SELECT * INTO x FROM orders
SELECT * FROM orders FOR UPDATE
SELECT 1; DROP TABLE orders
SELECT 'a\'; DROP TABLE orders; --'
SELECT [;]; DELETE FROM orders
SELECT /* /* */ 1; DROP TABLE orders /* */ */
COMMIT; DROP TABLE orders
"SELECT 1\u0000; DROP TABLE orders"
SELECT 1 /* ; DROP TABLE orders
please drop the table
SELECT load_extension('./pwned')
SELECT "load_extension"('./pwned')
SELECT writefile('pwned', 'x')
SELECT optimize(search) FROM search
SELECT file FROM pragma_database_list

-- == allowed
SELECT 1
select count(*) from orders where note like '%drop table%' escape '\'
SELECT * FROM orders LIMIT 5, 10
SELECT DISTINCT copies FROM orders WHERE copies IN (1,2,3) OR copies NOT IN (SELECT copies FROM v) GROUP BY copies HAVING count(*) > 1
WITH RECURSIVE c(x) AS (VALUES (1) UNION ALL SELECT x+1 FROM c WHERE x < 10) SELECT x FROM c
WITH t(a, b) AS (SELECT 1, 2) SELECT a + b FROM t
SELECT row_number() OVER (PARTITION BY copies ORDER BY id) AS rn, sum(copies) OVER w, lag(copies, 1, 0) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM orders WINDOW w AS (ORDER BY id)
SELECT sum(copies) FILTER (WHERE discount_percent = 0) FROM orders
SELECT group_concat(DISTINCT copies) , group_concat(note, ', ') FROM orders
SELECT group_concat(note, ',' ORDER BY id) FROM orders
SELECT string_agg(note, ',') FROM orders
SELECT CASE copies WHEN 1 THEN 'one' WHEN 2 THEN 'two' ELSE 'many' END, CASE WHEN copies > 1 THEN 1 END FROM orders
SELECT CAST(copies AS TEXT), CAST('1' AS INTEGER), CAST(1 AS REAL), CAST('x' AS BLOB), CAST(1 AS NUMERIC), cast(1 as varchar(10)), cast(1 as decimal(10,2)) FROM orders
SELECT date('now'), datetime('now', '-1 day'), strftime('%Y-%m', 'now'), julianday('now'), unixepoch()
SELECT CURRENT_TIMESTAMP, current_date, CURRENT_TIME
SELECT substr(note, 1, 2), substring(note, 2), upper(note), lower(note), length(note), trim(note), ltrim(note, 'n'), rtrim(note), replace(note, 'n', 'm'), instr(note, 'n') FROM orders
SELECT coalesce(note, 'x'), ifnull(note, 'x'), nullif(copies, 1), iif(copies > 1, 'a', 'b') FROM orders
SELECT json_extract('{"a":1}', '$.a'), '{"a":1}' -> '$.a', '{"a":1}' ->> 'a', json_object('a', 1), json_array(1,2), json_group_array(copies) FROM orders
SELECT value FROM json_each('[1,2,3]')
SELECT o.id, j.value FROM orders o, json_each('[1,2]') AS j WHERE j.value = o.copies
SELECT * FROM (SELECT copies, count(*) n FROM orders GROUP BY 1) AS s WHERE n > 1
SELECT (SELECT max(id) FROM orders), EXISTS (SELECT 1 FROM orders WHERE copies = 3), NOT EXISTS(SELECT 1)
SELECT 1 UNION SELECT 2 UNION ALL SELECT 3 EXCEPT SELECT 4 INTERSECT SELECT 5 ORDER BY 1
SELECT * FROM orders WHERE (copies, discount_percent) = (1, 0)
SELECT * FROM orders WHERE (copies, discount_percent) IN (VALUES (1,0),(2,15))
SELECT * FROM orders WHERE copies IS NULL OR copies IS NOT NULL OR copies ISNULL OR copies NOTNULL OR copies NOT NULL
SELECT * FROM orders WHERE copies IS 1 OR copies IS NOT 2
SELECT * FROM orders WHERE copies IS NOT DISTINCT FROM 1
SELECT * FROM orders WHERE note COLLATE NOCASE = 'N1' ORDER BY note COLLATE RTRIM
SELECT * FROM orders WHERE note GLOB 'n*' AND note NOT LIKE 'x%'
SELECT ~1, -1, +1, 1 << 2, 8 >> 1, 5 & 3, 5 | 3, 5 % 3, 1 || 2, 1 == 1, 1 <> 2, 1 != 2, NOT 1
SELECT 1.5e3, .5, 1e-2, 0x1F, x'00ff', 'it''s', NULL, TRUE, FALSE
SELECT "copies", [note], `id`, main.orders.id, "main"."orders"."id" FROM main.orders
SELECT "select", "order" FROM (SELECT 1 AS "select", 2 AS "order")
SELECT o.* , * FROM orders o
SELECT rowid, _rowid_, oid FROM orders
SELECT a FROM f WHERE f MATCH 'hello' ORDER BY rank
SELECT name, sql FROM sqlite_schema WHERE type = 'table'
SELECT name FROM sqlite_master
SELECT * FROM pragma_table_info('orders')
SELECT m.name, p.name FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'
SELECT * FROM pragma_foreign_key_list('orders')
SELECT * FROM orders a, orders b WHERE a.id = b.id LIMIT 1
SELECT id FROM orders ORDER BY random() LIMIT 1
SELECT count(DISTINCT copies), total(copies), avg(copies), min(copies), max(copies, id) FROM orders
SELECT printf('%05.2f', 1.5), format('%d', 1), round(1.25, 1), abs(-1), sign(-1), hex('a'), quote('a'), typeof(1), unicode('a'), char(65,66)
SELECT copies AS "Number of copies", copies 'alias', copies [al ias], copies `x` FROM orders
SELECT all copies FROM orders
SELECT copies FROM orders GROUP BY copies, note HAVING max(id) > 1 ORDER BY 1 LIMIT 3
VALUES (1, 'a'), (2, 'b')
SELECT 1 -- comment; DROP TABLE orders
SELECT /* hi */ 1;
SELECT * FROM orders WHERE id = ?1 OR copies = ?1
SELECT replace(note, 'a', 'b') AS r, if(1,2,3) FROM orders
SELECT likely(1), unlikely(0), likelihood(1, 0.5)
SELECT date FROM (SELECT 1 AS date)
SELECT key, value, type FROM json_each('{"a":1}')
SELECT timestamp, year, month, day, user, position, "end" , status, level, desc_ FROM (SELECT 1 timestamp, 2 year, 3 month, 4 day, 5 user, 6 position, 7 AS "end", 8 status, 9 level, 10 desc_)
SELECT left, right FROM (SELECT 1 AS left, 2 AS right)
SELECT (1, 2) < (1, 3), 1 IN (), (SELECT 1) IN (SELECT 1)
SELECT 1 WHERE 1 BETWEEN 0 AND 2 AND 3 NOT BETWEEN 4 AND 5
SELECT substr('abc', -1), max(1,2), min(1,2)
SELECT unhex('00'), octet_length('é'), concat('a',1), concat_ws('-', 'a', 'b'), timediff('2024-01-02','2024-01-01'), soundex('x')
SELECT iif(1, 'a'), json_pretty('{}'), json_valid('{}'), json_type('[]'), json_patch('{}','{}')
SELECT ordered.copies FROM orders AS ordered WHERE ordered.id = (SELECT min(x.id) FROM orders x WHERE x.copies = ordered.copies)
SELECT * FROM orders WHERE id > 1 AND (copies = 2 OR (note = 'x' AND NOT (discount_percent = 15)))

-- == allowed: windows, grouping and ordering
SELECT id, copies, copies - lag(copies, 1, copies) OVER (PARTITION BY book_id ORDER BY id) AS change FROM orders
SELECT o.*, count(*) OVER () AS total FROM orders o ORDER BY id
SELECT id, ntile(4) OVER (ORDER BY copies DESC NULLS LAST), cume_dist() OVER (ORDER BY copies), percent_rank() OVER (ORDER BY copies) FROM orders
SELECT id, avg(copies) OVER (ORDER BY id ROWS BETWEEN 6 PRECEDING AND CURRENT ROW) AS moving FROM orders
SELECT id, first_value(copies) OVER w, last_value(copies) OVER w, nth_value(copies, 2) OVER w FROM orders WINDOW w AS (ORDER BY id RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
SELECT * FROM (SELECT id, copies, row_number() OVER (PARTITION BY book_id ORDER BY copies DESC) AS place FROM orders) WHERE place = 1
SELECT strftime('%Y-%m', ordered) AS month, count(*) FROM orders GROUP BY month ORDER BY month
SELECT count(*) FILTER (WHERE copies >= 10) AS large, sum(CASE WHEN copies < 10 THEN 1 ELSE 0 END) AS small FROM orders
SELECT book_id, group_concat(copies, ', ') FROM orders GROUP BY book_id HAVING count(*) > 1
SELECT book_id, count(*), total(copies), avg(copies) FROM orders GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10 OFFSET 0
SELECT DISTINCT book_id, copies FROM orders ORDER BY 1 DESC
SELECT id, rank() OVER (ORDER BY copies), dense_rank() OVER (ORDER BY copies) FROM orders ORDER BY id DESC
SELECT id, sum(copies) OVER (ORDER BY id GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM orders

-- == allowed: common table expressions and subqueries
WITH monthly AS (SELECT strftime('%Y-%m', ordered) AS month, sum(copies) AS n FROM orders GROUP BY 1) SELECT month, n, sum(n) OVER (ORDER BY month) AS running FROM monthly
WITH RECURSIVE days (day) AS (SELECT '2024-01-01' UNION ALL SELECT date(day, '+1 day') FROM days WHERE day < '2024-01-10') SELECT day FROM days
WITH RECURSIVE tree (id, depth) AS (SELECT 1, 0 UNION ALL SELECT b.id, t.depth + 1 FROM book b JOIN tree t ON b.id = t.id + 1) SELECT id, depth FROM tree
WITH a AS MATERIALIZED (SELECT 1 AS x), b AS NOT MATERIALIZED (SELECT x + 1 AS x FROM a) SELECT * FROM a UNION ALL SELECT * FROM b
SELECT b.title, (SELECT sum(o.copies) FROM orders o WHERE o.book_id = b.id) AS copies FROM book b
SELECT * FROM book WHERE id = (SELECT book_id FROM orders ORDER BY copies DESC, id LIMIT 1)
SELECT * FROM book WHERE (id, title) IN (SELECT id, title FROM book WHERE price > 8)
SELECT b.id FROM book b LEFT JOIN orders o ON o.book_id = b.id AND o.copies > 5 WHERE o.id IS NULL
SELECT b.id FROM book b INNER JOIN orders o ON b.id = o.book_id INNER JOIN sold s USING (title)
SELECT * FROM book NATURAL JOIN u
SELECT * FROM book LEFT OUTER JOIN orders USING (id)
SELECT * FROM book FULL JOIN orders ON orders.book_id = book.id
SELECT * FROM book RIGHT JOIN orders ON orders.book_id = book.id
SELECT * FROM book CROSS JOIN u
SELECT count(*) FROM (SELECT DISTINCT book_id FROM orders)
SELECT b1.id, b2.id FROM book AS b1, book AS b2 WHERE b1.id < b2.id
SELECT id FROM book INTERSECT SELECT book_id FROM orders
SELECT id FROM book EXCEPT SELECT book_id FROM orders ORDER BY id
SELECT * FROM (VALUES (1, 'a'), (2, 'b'))
SELECT net, gross FROM priced
SELECT a, snippet(f, 0, '[', ']', '…', 5), bm25(f) FROM f WHERE f MATCH 'hello OR world'

-- == allowed: json, dates, text, numbers
SELECT json_extract('{"a": {"b": [1, 2]}}', '$.a.b[1]'), '{"a": 1}' ->> '$.a', json_array_length('[1, 2]'), json_type('{"a": null}', '$.a')
SELECT key, value, type, path FROM json_tree('{"a": [1, {"b": 2}]}') WHERE atom IS NOT NULL
SELECT json_group_object(id, title) FROM book
SELECT json_set('{"a": 1}', '$.a', 2), json_remove('{"a": 1}', '$.a'), json_insert('{}', '$.b', 1), json_replace('{"a": 1}', '$.a', 'x'), json_quote('x')
SELECT date('now', 'start of month', '-1 day'), datetime(0, 'unixepoch'), time('12:00', '+90 minutes'), julianday('2024-01-02') - julianday('2024-01-01'), strftime('%s', '2024-01-01')
SELECT ordered BETWEEN '2024-01-01' AND '2024-12-31', ordered > date('now', '-30 years') FROM orders
SELECT CASE WHEN price IS NULL THEN 'none' WHEN price < 9 THEN 'low' ELSE 'high' END AS band, count(*) FROM book GROUP BY band
SELECT CASE id WHEN 1 THEN 'one' ELSE 'more' END FROM book
SELECT title || ' (' || coalesce(price, '-') || ')' FROM book
SELECT title FROM book WHERE title LIKE '100\%%' ESCAPE '\' OR title NOT GLOB 'x*' OR title LIKE 'é_'
SELECT substr(title, -3), instr(title, 'm'), replace(title, 'm', 'n'), upper(title), trim(title), ltrim(title), length(title), hex(cover), typeof(cover), unicode(title) FROM book
SELECT round(avg(price), 2), 7 / 2, 7 % 2, -7 / 2.0, abs(-5), max(1, 2, 3), min(4, 5), 1e3, .5, 0x10 FROM book
SELECT printf('%.2f', price), printf('%,d', 1234567), format('%05d', id), char(72, 105) FROM book
SELECT CAST(price AS INTEGER), CAST(price AS TEXT), CAST(cover AS TEXT), CAST('12abc' AS INTEGER) FROM book
SELECT 1 IS NOT 2, 1 <> 2, 1 != 2, 1 == 1, NOT 0, 2 BETWEEN 1 AND 3, NULL IS NULL, 1 IN (1, 2), 'a' < 'b' COLLATE NOCASE
SELECT id FROM book WHERE price IS NOT NULL AND (title = 'a' OR title = 'b' OR 1 = 1) ORDER BY price IS NULL, price DESC
SELECT quote(title), zeroblob(4), randomblob(4) IS NOT NULL, random() IS NOT NULL, likelihood(id = 1, 0.1) FROM book
SELECT sum(price) * 100.0 / (SELECT sum(price) FROM book) FROM book

-- == allowed: names, comments, text that looks like a statement
"SELECT 1 -- \r; DROP TABLE t"
SELECT 1 /*/; DROP TABLE t; /*/
SELECT 1 -- */; SELECT 1 /*
SELECT 'drop table book', 'DELETE FROM book;', 'it''s; -- not a comment', '/* nor this */'
SELECT "b"."title" AS "select", b.price AS "order", b.id AS "user" FROM "book" AS "b"
SELECT "select", "group" FROM "order" WHERE "order"."select" = 1
SELECT [select] FROM [order]
SELECT id AS "update", title AS "delete" FROM book WHERE title <> 'insert into x' ORDER BY "update"
SELECT id AS value, title AS name, price AS type, ordered AS date FROM book JOIN orders USING (id)
"-- what was sold; DROP TABLE book\nSELECT * FROM sold"
/* DELETE FROM book */ SELECT /* inner */ count(*) FROM book -- done
"SELECT id -- the key\n     , title -- the name; really\nFROM book\nWHERE id > 0\n  AND (title = 'a' OR title = 'b' OR 1 = 1)\n;\n"
SELECT title FROM book WHERE title LIKE '%create%' OR title LIKE '%attach%' OR title LIKE '%pragma%'
SELECT count(*) AS "total; DROP TABLE book" FROM orders
SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL
SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY 1
SELECT * FROM pragma_index_list('orders')
SELECT "table", "from", "to" FROM pragma_foreign_key_list('orders')

-- == refused: more statements that are no reads
INSERT OR REPLACE INTO t VALUES (1, 'x')
INSERT INTO t DEFAULT VALUES
INSERT INTO t (a) VALUES (9) ON CONFLICT DO UPDATE SET b = 'z'
UPDATE OR IGNORE t SET b = 'z'
UPDATE t SET b = 'z' FROM u
UPDATE t AS x SET b = (SELECT 1)
DELETE FROM t WHERE a IN (SELECT a FROM t)
DELETE FROM t INDEXED BY x
DELETE FROM main.t
INSERT INTO f (f) VALUES ('rebuild')
INSERT INTO f (f, rank) VALUES ('pgsz', 64)
CREATE TABLE IF NOT EXISTS x (a)
CREATE TABLE temp.x AS SELECT 1
CREATE TEMPORARY VIEW x AS SELECT 1
CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END
CREATE UNIQUE INDEX x ON t (b)
CREATE VIRTUAL TABLE x USING csv(filename='/etc/passwd')
DROP TABLE IF EXISTS t
DROP VIEW v
DROP INDEX copies
DROP TRIGGER tr
ALTER TABLE t DROP COLUMN b
ALTER TABLE t RENAME COLUMN b TO c
ATTACH 'file::memory:?cache=shared' AS m
ATTACH ':memory:' AS m
ATTACH '/tmp/attack.db' AS "main2"
DETACH DATABASE temp
VACUUM main
VACUUM main INTO '/tmp/attack.db'
REINDEX t
ANALYZE main.t
ANALYZE sqlite_schema
BEGIN IMMEDIATE
BEGIN CONCURRENT
COMMIT TRANSACTION
ROLLBACK TO x
PRAGMA main.user_version = 7
PRAGMA user_version(7)
PRAGMA application_id = 7
PRAGMA journal_mode(WAL)
PRAGMA synchronous = OFF
PRAGMA foreign_keys = ON
PRAGMA case_sensitive_like = 1
PRAGMA schema_version = 99
PRAGMA hard_heap_limit = 1
PRAGMA temp_store_directory = '/tmp'
PRAGMA data_store_directory = '/tmp'
PRAGMA trusted_schema = 1
PRAGMA cell_size_check = 0
PRAGMA mmap_size = 1000000000
PRAGMA incremental_vacuum
PRAGMA integrity_check
PRAGMA optimize
PRAGMA shrink_memory
PRAGMA key = 'x'
PRAGMA rekey = 'x'
PRAGMA function_list
PRAGMA compile_options
EXPLAIN QUERY PLAN DELETE FROM t
EXPLAIN ANALYZE SELECT 1
WITH x AS (SELECT 1) REPLACE INTO t SELECT 1, 2
WITH x AS (SELECT 1) DELETE FROM t RETURNING *
WITH x AS (VALUES (1)) UPDATE t SET b = 1
SELECT * FROM (DELETE FROM t RETURNING *)
SELECT (INSERT INTO u VALUES (1) RETURNING c)
SELECT 1 UNION DELETE FROM t
.shell touch /tmp/attack
.import /etc/passwd t
.output /tmp/attack
SHOW TABLES
DESCRIBE t
USE main
GRANT ALL ON t TO x
LOCK TABLE t
DO 1
KILL 1
SELECT 1 INTO OUTFILE '/tmp/attack'
SELECT * FROM t LOCK IN SHARE MODE
SELECT 1; PRAGMA user_version = 7
SELECT 1; ATTACH 'y.db' AS y
SELECT 1;;SELECT 2
SELECT 1; ;DROP TABLE t
SELECT ';'';'; DROP TABLE t
SELECT "a"";"; DROP TABLE t
SELECT `a``;`; DROP TABLE t
SELECT [a;]]; DROP TABLE t
SELECT x'3b'; DROP TABLE t
SELECT 1 /**/;/**/ DROP TABLE t
"SELECT 1 -- \n; DROP TABLE t"
"SELECT 'a\u0000'; DROP TABLE t"
"SELECT 1\u001a; DROP TABLE t"
"SELECT 1\u2028; DROP TABLE t"
"SELECT 1\u0085; DROP TABLE t"

-- == refused: more functions and tables that reach out
SELECT * FROM sqlite_stat4
SELECT sample FROM main.sqlite_stat3
SELECT load_extension('x', 'y')
SELECT `load_extension`('x')
SELECT load_extension ('x')
SELECT load_extension/**/('x')
SELECT Load_Extension('x')
SELECT (load_extension('x'))
SELECT 1 FROM t WHERE load_extension('x')
SELECT 1 FROM t ORDER BY load_extension('x')
SELECT 1 FROM t GROUP BY load_extension('x')
SELECT count(*) FROM t HAVING load_extension('x')
SELECT 1 LIMIT load_extension('x')
SELECT CASE WHEN load_extension('x') THEN 1 END
SELECT CAST(load_extension('x') AS TEXT)
SELECT sum(a) FILTER (WHERE load_extension('x')) FROM t
SELECT sum(a) OVER (ORDER BY load_extension('x')) FROM t
SELECT sum(a) OVER (PARTITION BY load_extension('x') ROWS 1 PRECEDING) FROM t
SELECT sum(a) OVER w FROM t WINDOW w AS (ORDER BY load_extension('x'))
SELECT * FROM t JOIN u ON load_extension('x')
SELECT * FROM (SELECT load_extension('x'))
SELECT 1 UNION SELECT load_extension('x')
WITH x AS (SELECT load_extension('x')) SELECT * FROM x
WITH RECURSIVE x (a) AS (SELECT load_extension('x') UNION ALL SELECT a FROM x) SELECT * FROM x
VALUES (load_extension('x'))
SELECT 1 IN (load_extension('x'))
SELECT EXISTS (SELECT load_extension('x'))
SELECT 'a' LIKE load_extension('x')
SELECT 'a' LIKE 'b' ESCAPE load_extension('x')
SELECT 1 BETWEEN load_extension('x') AND 2
SELECT load_extension('x') COLLATE NOCASE
SELECT - load_extension('x')
SELECT load_extension('x') ->> 'a'
SELECT max(1, load_extension('x'))
SELECT json_object('a', load_extension('x'))
SELECT value FROM json_each(load_extension('x'))
SELECT * FROM pragma_table_info(load_extension('x'))
SELECT group_concat(a, load_extension('x')) FROM t
SELECT edit('x')
SELECT shell_exec('x')
SELECT sqlite_compileoption_get(1)
SELECT sqlite_compileoption_used('x')
SELECT sqlite_source_id()
SELECT sqlite_offset(a) FROM t
SELECT sqlite_log(1, 'x')
SELECT total_changes()
SELECT changes()
SELECT fts5(1)
SELECT fts5_source_id()
SELECT rtreecheck('area')
SELECT rtreenode(2, x'00')
SELECT subtype('x')
SELECT eval('DROP TABLE t')
SELECT crypt('x')
SELECT zipfile('a', 'b')
SELECT lsmode(1)
SELECT * FROM pragma_database_list
SELECT * FROM PRAGMA_FUNCTION_LIST
SELECT * FROM pragma_compile_options
SELECT * FROM pragma_journal_mode
SELECT * FROM pragma_user_version
SELECT * FROM pragma_integrity_check
SELECT * FROM pragma_optimize
SELECT * FROM pragma_wal_checkpoint
SELECT * FROM "main"."pragma_user_version"
SELECT * FROM pragma_query_only
SELECT * FROM t, pragma_module_list
SELECT * FROM t WHERE a IN (SELECT seq FROM pragma_database_list)
SELECT * FROM bytecode('SELECT 1')
SELECT * FROM tables_used('SELECT 1')
SELECT * FROM completion('SEL')
SELECT * FROM fts5vocab
SELECT * FROM sqlite_dbpage('main')
SELECT * FROM dbstat('main')
SELECT * FROM zipfile('x.zip')
SELECT * FROM readfile('/etc/passwd')
SELECT * FROM csv('/etc/passwd')
SELECT * FROM sqlite_temp_master
SELECT * FROM temp.t
SELECT * FROM version
SELECT * FROM loading
SELECT count(*) FROM version
WITH x AS (SELECT * FROM version) SELECT * FROM x
SELECT * FROM other.sqlite_master
