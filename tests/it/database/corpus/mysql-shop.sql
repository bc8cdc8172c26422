SET sql_mode = '';
CREATE TABLE book (id INT PRIMARY KEY, title VARCHAR(100) NOT NULL, price DECIMAL(10, 2), added DATETIME);
INSERT INTO book VALUES (1, 'Emma', 9.50, '2024-01-02 03:04:05'), (2, 'Persuasion', 8.00, NULL), (3, 'Größe; DROP TABLE book', NULL, NULL);
CREATE TABLE orders (id BIGINT PRIMARY KEY, book_id INT, copies INT, info JSON);
INSERT INTO orders VALUES (1, 1, 10, '{"a": 1}'), (2, 1, 3, NULL), (3, 2, 10, NULL);
CREATE TABLE touched (id INT);
CREATE SEQUENCE counter;
CREATE VIEW sold AS SELECT title, SUM(copies) AS copies FROM book JOIN orders ON orders.book_id = book.id GROUP BY title;
CREATE FUNCTION touch(i INT) RETURNS INT RETURN NEXTVAL(counter) + i;
CREATE FUNCTION plain(i INT) RETURNS INT DETERMINISTIC RETURN i + 1;
CREATE FUNCTION regexp_like(a TEXT, b TEXT) RETURNS INT RETURN SLEEP(1);
CREATE FUNCTION format_bytes(i INT) RETURNS TEXT RETURN LOAD_FILE('/etc/hostname');
CREATE VIEW touching AS SELECT touch(id) AS id FROM book;
CREATE VIEW outer_touching AS SELECT * FROM touching;
CREATE VIEW sleeping AS SELECT SLEEP(1) AS slept FROM book;
CREATE VIEW reading_files AS SELECT LOAD_FILE('/etc/hostname') AS content;
CREATE VIEW stepping AS SELECT NEXTVAL(counter) AS n FROM book;
CREATE VIEW accounts AS SELECT User, Host FROM mysql.global_priv;
CREATE TABLE kinds (tiny TINYINT, utiny TINYINT UNSIGNED, small SMALLINT, medium MEDIUMINT, uint INT UNSIGNED, big BIGINT, ubig BIGINT UNSIGNED,
    single FLOAT, twice DOUBLE, exact DECIMAL(30, 2), bits BIT(8), day DATE, span TIME(6), moment DATETIME(6), stamp TIMESTAMP NULL, year YEAR,
    words VARCHAR(20), letter CHAR(2), bytes VARBINARY(10), choice ENUM('a', 'b'), choices SET('a', 'b', 'c'), info JSON);
SET time_zone = '+00:00';
INSERT INTO kinds VALUES (-128, 255, 32767, -8388608, 4294967295, -9223372036854775808, 18446744073709551615, 0.1, 2.5, -12345678901234567890.12, b'101', '2024-02-29',
    '-838:59:59.5', '2024-02-29 23:59:59.123456', '2024-01-02 03:04:05', 2024, 'é''\\', 'x', x'00ff', 'b', 'a,c', '{"a": 1}');
INSERT INTO kinds (day, span, moment) VALUES ('0000-00-00', '00:00:00', '0000-00-00 00:00:00');
