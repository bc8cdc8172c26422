//! What passes for one read, and what does not; how long and how deep a statement may be.

use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rusqlite::Connection;
use tempfile::TempDir;
use tollgate_tests::corpus::{MYSQL, POSTGRES, REFUSALS, SQLITE};

use super::*;

fn check(sql: &str) -> Result<ReadStatement, Refusal> {
    ReadStatement::check(sql, &Rules::of(Syntax::Sqlite))
}

fn code(sql: &str) -> &'static str {
    check(sql).map_or_else(|refusal| refusal.code, |_| "ok")
}

#[test]
fn attacks_are_refused_by_their_text_alone() {
    let passes = |sql: &&String| code(sql) == "ok";
    let passed: Vec<_> = SQLITE.refused.iter().filter(passes).collect();
    // What stands behind a view only the engine knows.
    assert!(passed.iter().all(|sql| ["version", "loading"].iter().any(|view| sql.contains(view))), "{passed:#?}");
    assert!(SQLITE.refused.iter().all(|sql| passed.contains(&sql) || REFUSALS.contains(&code(sql))));
    let of_mysql = |sql: &str| ReadStatement::check(sql, &Rules::of(Syntax::Mysql)).is_ok();
    let passed: Vec<_> = MYSQL.refused.iter().filter(|sql| of_mysql(sql)).collect();
    // As is what is stored under a name that it may have for a function of its own.
    let stored = ["touching", "sleeping", "reading_files", "stepping", "accounts", "regexp_like", "format_bytes"];
    let is_of_these = |sql: &str| stored.iter().any(|name| sql.to_ascii_lowercase().contains(name));
    assert!(passed.iter().all(|sql| is_of_these(sql)), "{passed:#?}");
}

#[test]
fn honest_statements_pass() {
    for sql in &SQLITE.allowed {
        let refusal = check(sql).err();
        assert!(refusal.is_none(), "{sql}: {refusal:?}");
    }
    for sql in &MYSQL.allowed {
        let refusal = ReadStatement::check(sql, &Rules::of(Syntax::Mysql)).err();
        assert!(refusal.is_none(), "{sql}: {refusal:?}");
    }
}

#[test]
fn words_of_the_engine_are_no_tables() {
    let postgres = |sql: &str| ReadStatement::check(sql, &Rules::of(Syntax::Postgres)).is_ok();
    assert!(postgres("SELECT * FROM \"only\" x") && postgres("SELECT * FROM only_once only_this"));
    for sql in ["SELECT * FROM ONLY x", "SELECT * FROM Only x", "SELECT * FROM t, only x", "SELECT * FROM t only"] {
        assert!(!postgres(sql), "{sql}");
    }
}

#[test]
fn what_a_statement_names_is_known() {
    let sql = "WITH c AS (SELECT upper(title) AS t FROM Book) SELECT count(*), lower(t) FROM c, main.orders";
    let statement = check(sql).unwrap();
    assert_eq!(statement.tables().iter().collect::<Vec<_>>(), ["Book", "orders"]);
    assert_eq!(statement.functions().iter().collect::<Vec<_>>(), ["count", "lower", "upper"]);
    assert_eq!(statement.kind(), "select");
    assert_eq!(check("VALUES (1)").unwrap().kind(), "values");
}

#[test]
fn parser_that_sees_other_strings_is_not_believed() {
    let tokens = |quoted: &str| Tokens {
        text: "SELECT N'a', 'b'".to_owned(),
        quoted: [quoted, "b"].map(|text| ('\'', text.to_owned())).to_vec(),
        first_word: "SELECT".to_owned(),
        operators: BTreeSet::new(),
        parameters: Vec::new(),
        pieces: Vec::new(),
        parentheses: 0,
        depth: 0,
        tried: 0,
    };
    // SQLite has a name and a string where the parser has one string of its own kind.
    assert_eq!(parse(&tokens("a"), Syntax::Sqlite).unwrap_err().code, "not_parsed");
    let agreed = lexer::tokens("SELECT N'a', 'b'", Syntax::Sqlite).unwrap();
    assert_eq!(agreed.text, "SELECT N 'a', 'b'");
    assert!(parse(&agreed, Syntax::Sqlite).is_ok());
}

/// Reads `sql` as the parser's own tokenizer and dialects do and as ours, and compares the trees.
fn compare_trees(sql: &str, syntax: Syntax) -> Result<(), String> {
    let (Ok(tokens), Ok(mut long)) = (lexer::tokens(sql, syntax), lexer::tokens(sql, syntax)) else {
        return Ok(());
    };
    long.pieces.clear();
    let own: &dyn Dialect = match syntax {
        Syntax::Sqlite => &Sqlite(SQLiteDialect {}),
        Syntax::Postgres => &PostgreSqlDialect {},
        Syntax::Mysql => &MySqlDialect {},
    };
    match (parse_as(&long, syntax, own), parse(&tokens, syntax)) {
        (Ok(own), Ok(ours)) if format!("{own:?}") == format!("{ours:?}") => Ok(()),
        (Err(_), Err(_)) => Ok(()),
        (own, ours) => Err(format!("{sql}: {own:?} and {ours:?}")),
    }
}

#[test]
fn plain_names_make_the_same_trees() {
    for (corpus, syntax) in [(&SQLITE, Syntax::Sqlite), (&POSTGRES, Syntax::Postgres), (&MYSQL, Syntax::Mysql)] {
        for sql in corpus.allowed.iter().chain(&corpus.refused) {
            compare_trees(sql, syntax).unwrap();
        }
    }
    for sql in [
        "SELECT name, id.status, value FROM key WHERE type = 1 AND \"date\" > '2024-01-01' AND size IN (1, 2)",
        "SELECT date '2024-01-01', interval '1' day, a.b.c, x::text, a[1], f(a)[1], name(1), CAST(a AS int[])",
        "SELECT a ARRAY, b.c ARRAY[1] 'x', level + 1 owner, id*2, language||'x'",
        "SELECT name language FROM t ORDER BY size DESC, status LIMIT 1",
    ] {
        for syntax in [Syntax::Sqlite, Syntax::Postgres, Syntax::Mysql] {
            compare_trees(sql, syntax).unwrap();
        }
    }
}

#[test]
fn small_statements_are_few_steps() {
    let small = |sql: &str| Cut::of(sql.to_owned(), Syntax::Postgres).unwrap().is_small();
    assert!(small("SELECT upper(name) FROM t WHERE (a = 1 OR b IN (SELECT max(c) FROM u)) ORDER BY 1"));
    assert!(!small(&format!("SELECT {}1{}", "(".repeat(5), ")".repeat(5))));
    assert!(!small(&format!("SELECT 1{}", "+1".repeat(65))));
    // As long as a page, and as analysts write them.
    let long = format!("SELECT a FROM t WHERE b IN (1, 2){} ORDER BY a", " AND c <> 'x'".repeat(25));
    assert!(small(&long));
    assert!(!small(&format!("SELECT '{}'", "x".repeat(SMALL_BYTES_MAX))));
}

#[test]
fn messages_stay_short() {
    let long = "x".repeat(90_000);
    for sql in [
        long.clone(),
        format!("SELECT {long}()"),
        format!("SELECT * FROM pragma_{long}"),
        format!("SELECT '{long}' '{long}'"),
    ] {
        let refusal = check(&sql).err();
        assert!(refusal.is_none_or(|refusal| refusal.message.len() < 500), "{}", &sql[..40]);
    }
}

/// What stands where a name or a literal does, and behind it.
const WORDS: &[&str] = &[
    " name",
    " a",
    " \"b\"",
    " id",
    " date",
    " text",
    " interval",
    " array",
    " xml",
    " null",
    " not",
    " case",
    " end",
    " as",
    " from t",
    " where",
    " and",
    " in",
    " is",
    " like",
    " collate",
    " 'x'",
    " 1",
    " 1.5",
    ".",
    ",",
    "(",
    ")",
    "[1]",
    "::",
    " = ",
    " + ",
    " || ",
    "*",
    " -",
    " ->> ",
    "$1",
    " count(",
    " f(",
];

/// A file that a connection could write, with everything in it that a statement might change.
struct Writable {
    dir: TempDir,
    connection: Connection,
}

impl Writable {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let connection = Connection::open(dir.path().join("shop.db")).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y');
                 CREATE VIEW v AS SELECT a FROM t; CREATE TABLE u (c); INSERT INTO u VALUES (x'00');",
            )
            .unwrap();
        connection.progress_handler(100_000, Some(|| true)).unwrap();
        Self { dir, connection }
    }

    /// Every file in the folder with its content, and the settings that a pragma could change.
    fn state(&self) -> (Vec<(String, Vec<u8>)>, Vec<i64>) {
        let content = |path: &Path| fs::read(path).unwrap();
        let mut files: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), content(&entry.path())))
            .collect();
        files.sort();
        let settings = ["query_only", "foreign_keys", "user_version", "writable_schema", "recursive_triggers"]
            .map(|name| self.connection.pragma_query_value(None, name, |row| row.get(0)).unwrap());
        (files, settings.to_vec())
    }

    /// Runs every row of `sql`, whatever comes of it.
    fn run(&self, sql: &str) {
        if let Ok(mut statement) = self.connection.prepare(sql) {
            let mut rows = statement.raw_query();
            while let Ok(Some(_)) = rows.next() {}
        }
    }
}

/// The parser alone: what it lets through changes nothing on a connection that could.
fn changes_nothing(writable: &Writable, sql: &str) -> Result<(), TestCaseError> {
    let Ok(statement) = check(sql) else { return Ok(()) };
    let before = writable.state();
    writable.run(statement.text());
    prop_assert_eq!(writable.state(), before, "{}", sql);
    // It still can be written: the check above could fail.
    prop_assert!(writable.connection.is_autocommit());
    prop_assert!(!writable.connection.is_readonly("main").unwrap());
    Ok(())
}

#[test]
fn what_passes_changes_nothing_on_a_writable_file() {
    let writable = Writable::new();
    let before = writable.state();
    writable.run("DELETE FROM u");
    assert_ne!(writable.state(), before, "a change would be seen");
    for sql in SQLITE.allowed.iter().chain(&SQLITE.refused) {
        changes_nothing(&writable, sql).unwrap();
    }
}

#[test]
fn judging_is_quick_and_needs_little_stack() {
    let nested =
        |open: &str, middle: &str, close: &str| format!("SELECT {}{middle}{}", open.repeat(19), close.repeat(19));
    let statements = [
        nested("(", "1", ")"),
        nested("abs(", "1", ")"),
        nested("1 IN (SELECT ", "1", ")"),
        nested("* FROM (SELECT ", "1", ")"),
        nested("position(", "1", ")"),
        nested("* FROM in (SELECT -", "1", ")"),
        nested("CASE WHEN 1 THEN ", "1", " END"),
        format!("SELECT 1{}", "+1".repeat(490)),
        format!("SELECT 1{}", " OR 1".repeat(490)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(240)),
        format!("SELECT {}", "a ".repeat(45_000)),
        format!("SELECT {}1", "- ".repeat(45_000)),
        format!("SELECT {}1", "NOT ".repeat(20_000)),
        format!("SELECT a{}", ".a".repeat(45_000)),
        "(".repeat(90_000),
        "/**/".repeat(20_000),
        // What is read twice, in itself, and what is copied for every operator behind it.
        format!("SELECT {}{}1{}", "position(".repeat(19), "1,".repeat(2_000), ")".repeat(19)),
        format!("SELECT {}{}1{}", "position(1 IN ".repeat(19), "1,".repeat(2_000), ")".repeat(19)),
        format!("SELECT (a IN ({}1)){}", "1,".repeat(40_000), " ISNULL".repeat(480)),
        format!("SELECT (a IN ({}1)){}", "1,".repeat(40_000), " NOT GLOB 1".repeat(240)),
        format!("SELECT (a IN ({}1)){}", "1,".repeat(40_000), " DIV 1".repeat(480)),
    ];
    for sql in statements {
        judged_in_time(&sql, crate::connection::STACK_BYTES);
    }
}

/// Judges `sql` in every syntax on a stack of so many bytes; beyond it, this process would end.
fn judged_in_time(sql: &str, stack: usize) {
    for syntax in [Syntax::Sqlite, Syntax::Postgres, Syntax::Mysql] {
        let (done, answer) = std::sync::mpsc::channel();
        let (shown, sql) = (sql[..sql.len().min(60)].to_owned(), sql.to_owned());
        std::thread::Builder::new()
            .stack_size(stack)
            .spawn(move || done.send(ReadStatement::check(&sql, &Rules::of(syntax)).is_ok()))
            .unwrap();
        assert!(answer.recv_timeout(Duration::from_secs(20)).is_ok(), "{syntax:?}: {shown}");
    }
}

/// Everything known that makes a tree deeper by being written once more: what stands before, what is repeated, what stands behind.
const CHAINS: [(&str, &str, &str); 43] = [
    ("SELECT CAST(a AS int", "[]", ")"),
    ("SELECT a::int", "[]", ""),
    ("SELECT a", "[1]", ""),
    ("SELECT 1", " OVERLAPS 1", ""),
    ("SELECT a", " AT TIME ZONE 'x'", ""),
    ("SELECT a", " ILIKE a", ""),
    ("SELECT a", " DIV a", ""),
    ("SELECT a", " XOR a", ""),
    ("SELECT a", " SIMILAR TO a", ""),
    ("SELECT a", " RLIKE a", ""),
    ("SELECT a", " GLOB a", ""),
    ("SELECT a", " MEMBER OF(a)", ""),
    ("SELECT a", " OPERATOR(pg_catalog.+) a", ""),
    ("SELECT a", " IN (1)", ""),
    ("SELECT a", " BETWEEN 1 AND 2", ""),
    ("SELECT a", " COLLATE c", ""),
    ("SELECT a", " IS NULL", ""),
    ("SELECT a", " ISNULL", ""),
    ("SELECT a", " NOTNULL", ""),
    ("SELECT a", "::int", ""),
    ("SELECT a", " -> 'b'", ""),
    ("SELECT 1", " !", ""),
    ("SELECT ", "! ", "1"),
    ("SELECT ", "~ ", "1"),
    ("SELECT ", "interval ", "'1'"),
    ("SELECT ", "date ", "'x'"),
    ("SELECT ", "BINARY ", "1"),
    ("SELECT ", "PRIOR ", "1"),
    ("SELECT ", "EXISTS ", "1"),
    ("SELECT ", "CASE WHEN ", "1"),
    ("SELECT a = ", "ANY ", "1"),
    ("SELECT sum(a)", " OVER ()", ""),
    ("SELECT sum(a)", " FILTER (WHERE a)", ""),
    ("SELECT 1", " MINUS SELECT 1", ""),
    ("SELECT 1", " UNION SELECT 1,1", ""),
    ("SELECT * ", "minus select*,* ", "minus select*"),
    ("SELECT position(1 IN 1)", " + position(1 IN 1)", ""),
    ("SELECT 1 FROM t", " PIVOT(sum(a) FOR b IN (1))", ""),
    ("SELECT 1 FROM t", " CROSS JOIN t", ""),
    ("SELECT 1 FROM ", "t JOIN ", "t"),
    ("SELECT 1 FROM ", "LATERAL ", "t"),
    ("SELECT CAST(a AS ", "SETOF ", "int)"),
    ("", "EXPLAIN ", "SELECT 1"),
];

#[test]
fn what_would_be_copied_too_often_is_refused() {
    let cut = |word: &str, times: usize, syntax| {
        let sql = format!("SELECT (a IN ({}1)){}", "1,".repeat(40_000), word.repeat(times));
        Cut::of(sql, syntax).is_ok()
    };
    for (word, syntax) in [(" ISNULL", Syntax::Sqlite), (" IS 1", Syntax::Sqlite), (" DIV 1", Syntax::Mysql)] {
        assert!(cut(word, 20, syntax) && !cut(word, 480, syntax), "{word}");
    }
    assert!(cut(" ISNULL", 480, Syntax::Postgres));
}

#[test]
fn what_people_repeat_is_not_deep() {
    let repeated = |before: &str, part: &str, between: &str, times: usize, behind: &str| {
        format!("{before}{}{behind}", vec![part; times].join(between))
    };
    let month = "SELECT count(*) FROM t WHERE at >= date '2024-01-01' + interval '1 month' AND at < date '2024-01-01' + interval '2 month'";
    let range = "t.at BETWEEN now() - INTERVAL '1 day' AND now() - INTERVAL '2 day'";
    let bucket = "WHEN now() - t.at < interval '1 days' THEN 1";
    for (syntax, sql) in [
        (Syntax::Postgres, repeated("", month, " UNION ALL ", 48, "")),
        (Syntax::Postgres, repeated("SELECT * FROM t WHERE ", range, " OR ", 90, "")),
        (Syntax::Postgres, repeated("SELECT CASE ", bucket, " ", 200, " END FROM t")),
        (Syntax::Postgres, repeated("SELECT * FROM t WHERE ", "x ILIKE 'a%'", " OR ", 240, "")),
        (Syntax::Postgres, repeated("SELECT ", "m[1][2]", ", ", 500, " FROM t")),
        (Syntax::Mysql, repeated("SELECT * FROM t WHERE ", "BINARY a = 'x'", " OR ", 40, "")),
        (Syntax::Sqlite, repeated("SELECT * FROM t WHERE ", "a = 'x' COLLATE BINARY", " OR ", 160, "")),
        (Syntax::Sqlite, repeated("SELECT * FROM t WHERE ", "a IS NOT 1", " OR ", 150, "")),
    ] {
        let judging = std::thread::Builder::new().stack_size(crate::connection::STACK_BYTES);
        let judged = judging.spawn(move || ReadStatement::check(&sql, &Rules::of(syntax)).map(drop)).unwrap();
        let refused = judged.join().unwrap().err();
        assert!(refused.is_none(), "{syntax:?}: {refused:?}");
    }
}

#[test]
fn no_chain_is_deeper_than_the_stack() {
    for (before, repeated, behind) in CHAINS {
        let chain = |times: usize| format!("{before}{}{behind}", repeated.repeat(times));
        let most = (STATEMENT_BYTES_MAX - before.len() - behind.len()) / repeated.len();
        judged_in_time(&chain(most), crate::connection::STACK_BYTES);
        // What is judged where it is has the stack of any thread; without optimisation it takes several times as much.
        let stack = if cfg!(debug_assertions) { 8 } else { 1 } * 1024 * 1024;
        let is_small = |times: &usize| {
            let cut = |syntax| Cut::of(chain(*times), syntax).is_ok_and(|cut| cut.is_small());
            [Syntax::Sqlite, Syntax::Postgres, Syntax::Mysql].into_iter().any(cut)
        };
        let times: Vec<usize> = (1..=SMALL_BYTES_MAX / repeated.len()).collect();
        judged_in_time(&chain(times.partition_point(is_small)), stack);
    }
}

/// How many cases are tried: more with `TOLLGATE_LONG_TESTS=1`.
fn cases(few: u32) -> u32 {
    if std::env::var_os("TOLLGATE_LONG_TESTS").is_some() { few * 50 } else { few }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1_000)))]

    #[test]
    fn no_arrangement_of_words_makes_another_tree(picks in prop::collection::vec(0..WORDS.len(), 1..12)) {
        let sql: String = picks.iter().map(|pick| WORDS[*pick]).collect();
        for syntax in [Syntax::Sqlite, Syntax::Postgres, Syntax::Mysql] {
            compare_trees(&format!("SELECT {sql}"), syntax).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn no_arrangement_of_pieces_changes_anything(picks in prop::collection::vec(0..pieces::PIECES.len(), 1..14)) {
        thread_local! {
            static WRITABLE: Writable = Writable::new();
        }
        let sql: String = picks.iter().map(|pick| pieces::PIECES[*pick]).collect();
        WRITABLE.with(|writable| {
            changes_nothing(writable, &sql)?;
            changes_nothing(writable, &format!("SELECT {sql}"))
        })?;
    }

    #[test]
    fn sqlite_agrees_that_what_passes_is_a_read(
        picks in prop::collection::vec(0..pieces::PIECES.len(), 1..14),
        select in select(),
    ) {
        thread_local! {
            static COPY: agreement::Copy = agreement::Copy::new();
        }
        COPY.with(|copy| {
            copy.check(&pieces::text(picks.into_iter()));
            copy.check(&select);
        });
    }
}

/// Expressions as people write them, and what must not be among them.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "a",
        "t.a",
        "b",
        "'x'",
        "NULL",
        "x'00'",
        "?",
        "$1",
        "count(*)",
        "random()",
        "\"a\"",
        "'it''s'",
        "1.5e3",
        "CURRENT_DATE",
        "load_extension('x')",
        "changes()",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        let operator = prop::sample::select(vec![
            "+", "-", "||", "=", "<>", "AND", "OR", "IS", "IS NOT", "LIKE", "NOT LIKE", "GLOB", "NOT GLOB", "<<", "&",
            "%", "->>", "COLLATE", ",", "::", "@", ";",
        ]);
        prop_oneof![
            (two.clone(), operator).prop_map(|((left, right), operator)| format!("{left} {operator} {right}")),
            (inner.clone(), prop::sample::select(vec!["NOT", "-", "~", "EXISTS"]))
                .prop_map(|(value, word)| format!("{word} ({value})")),
            (
                inner.clone(),
                prop::sample::select(vec!["abs", "coalesce", "sum", "lower", "json", "eval", "total_changes"])
            )
                .prop_map(|(value, name)| format!("{name}({value})")),
            two.clone().prop_map(|(when, then)| format!("CASE WHEN {when} THEN {then} END")),
            two.prop_map(|(value, list)| format!("{value} IN ({list})")),
            inner.clone().prop_map(|value| format!("(SELECT {value} FROM t)")),
            inner.clone().prop_map(|value| format!("sum({value}) OVER (PARTITION BY {value})")),
            inner.prop_map(|value| format!("CAST({value} AS TEXT)")),
        ]
    })
}

/// Statements that are nearly right, and some that are no reads.
fn select() -> impl Strategy<Value = String> {
    let from = prop::sample::select(vec![
        "t",
        "v",
        "u",
        "t JOIN u ON a = c",
        "t, u",
        "main.t",
        "temp.t",
        "pragma_table_info('t')",
        "pragma_database_list",
        "sqlite_master",
        "(SELECT a, b FROM t)",
        "(DELETE FROM t RETURNING a)",
        "json_each('[1]')",
        "ONLY t",
    ]);
    let end = prop::sample::select(vec![
        "",
        " GROUP BY a",
        " ORDER BY 1",
        " LIMIT 1",
        " UNION SELECT 1",
        " FOR UPDATE",
        " INTO w",
        "; DROP TABLE t",
        " -- x",
        " RETURNING a",
        " EXCEPT DELETE FROM t",
    ]);
    let start = prop::sample::select(vec![
        "",
        "",
        "",
        "WITH c AS (SELECT 1) ",
        "WITH c AS MATERIALIZED (SELECT 1) ",
        "WITH c AS (DELETE FROM t RETURNING a) ",
        "EXPLAIN ",
        "INSERT INTO t (b) ",
        "CREATE TABLE w AS ",
        "/* x */ ",
    ]);
    (start, expression(), from, expression(), end).prop_map(|(start, value, from, condition, end)| {
        format!("{start}SELECT {value} FROM {from} WHERE {condition}{end}")
    })
}
