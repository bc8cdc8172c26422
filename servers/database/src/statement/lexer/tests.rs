//! How statements are cut.

use proptest::prelude::*;

use super::*;

fn tokens(sql: &str) -> Result<Tokens, Malformed> {
    super::tokens(sql, Syntax::Sqlite)
}

fn text(sql: &str) -> String {
    tokens(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}")).text
}

#[test]
fn comments_and_odd_space_are_gone() {
    assert_eq!(text(" SELECT\t\n1 -- one\n, /* ; DROP */2;"), "SELECT 1 , 2");
    assert_eq!(text("SELECT/**/count(*)FROM t;;  ; -- end"), "SELECT count(*)FROM t");
    assert_eq!(text("SELECT - -1, -/**/-1, a<-1"), "SELECT - -1, - -1, a< -1");
    // SQLite ends a comment at the first `*/`, whatever was opened in it.
    assert_eq!(text("SELECT 1 /* a /* b */ , 2"), "SELECT 1 , 2");
}

#[test]
fn strings_are_kept_as_they_are() {
    assert_eq!(
        text("SELECT 'a -- b', 'it''s; /*', \"x;\"\"\", [y--], `z`"),
        "SELECT 'a -- b', 'it''s; /*', \"x;\"\"\", [y--], `z`"
    );
    let quoted = tokens("SELECT 'it''s', \"a\"\"b\", [c]]d], `e`, x'00fF'").map(|tokens| tokens.quoted);
    assert!(quoted.is_err());
    let quoted = tokens("SELECT 'it''s', \"a\"\"b\", [c], `e`, x'00fF'").unwrap().quoted;
    let expected = [('\'', "it's"), ('"', "a\"b"), ('[', "c"), ('`', "e"), ('x', "00fF")];
    assert_eq!(quoted, expected.map(|(quote, content)| (quote, content.to_owned())));
}

#[test]
fn strings_of_other_engines_are_written_in_one_way() {
    let written = |syntax, pairs: &[(&str, &str)]| {
        for (sql, expected) in pairs {
            let text = super::tokens(sql, syntax).map(|tokens| tokens.text);
            assert_eq!(text.as_deref(), Ok(*expected), "{sql}");
        }
    };
    let refused = |syntax, all: &[&str]| {
        for sql in all {
            let text = super::tokens(sql, syntax).map(|tokens| tokens.text);
            assert!(text.is_err(), "{sql}: {text:?}");
        }
    };
    let of_postgres = [
        ("SELECT 'a''b', 'a\\b'", "SELECT 'a''b', 'a\\b'"),
        ("SELECT E'a\\'b\\n''\\\\', $$it's$$, $x$ $$ $x$", "SELECT 'a''b\n''\\', 'it''s', ' $$ '"),
        ("SELECT 1 /* /* */ ; */ -- x\r+ 1", "SELECT 1 + 1"),
        ("SELECT a::int, $1 :: text, b[1:2], c ->> 'x'", "SELECT a::int, $1 :: text, b[1:2], c ->> 'x'"),
    ];
    written(Syntax::Postgres, &of_postgres);
    let not_of_postgres = [
        "SELECT U&'a'",
        "SELECT U&\"a\"",
        "SELECT N'a'",
        "SELECT B'1'",
        "SELECT x'1F'",
        "SELECT E'\\x41'",
        "SELECT E'\\u0041'",
        "SELECT 'a' 'b'",
        "SELECT 'a'\n'b'",
        "SELECT mytype '1'",
        "SELECT \"mytype\" '1'",
        "SELECT numeric(1) '1'",
        "SELECT mytype $$1$$",
        "SELECT `a`",
        "SELECT $a",
        "SELECT $a$ b",
        "SELECT /* /* */ 1",
        "SELECT E'a\\",
        "SELECT 0x1F",
        "SELECT a\"b\"",
    ];
    refused(Syntax::Postgres, &not_of_postgres);
    let of_mysql = [
        ("SELECT 'a\\'b', \"it's\", 'a\\\\', \"\\%\"", "SELECT 'a''b', 'it''s', 'a\\\\', '\\\\%'"),
        ("SELECT 1 # x\n+ 1 -- y", "SELECT 1 + 1"),
        ("SELECT 1--1", "SELECT 1- -1"),
        ("SELECT `a``b` FROM t WHERE a <=> ?", "SELECT `a``b` FROM t WHERE a <=> ?"),
    ];
    written(Syntax::Mysql, &of_mysql);
    let not_of_mysql = [
        "SELECT /*! 1 */",
        "SELECT /*!50000 1 */",
        "SELECT /*M!100 1 */",
        "SELECT @a",
        "SELECT @@a",
        "SELECT _utf8 'a'",
        "SELECT _utf8'a'",
        "SELECT n'a'",
        "SELECT b'1'",
        "SELECT 'a\\",
        "SELECT 'a' 'b'",
        "SELECT a := 1",
        "SELECT '\\0'",
    ];
    refused(Syntax::Mysql, &not_of_mysql);
}

#[test]
fn prefixes_of_strings_come_apart() {
    assert_eq!(text("SELECT N'a', E'b', a'c'"), "SELECT N 'a', E 'b', a 'c'");
}

#[test]
fn columns_and_types_may_be_in_parentheses_after_any_word() {
    for sql in [
        "WITH c (a, b) AS (SELECT 1, (2)) SELECT * FROM c",
        "SELECT CAST(1 AS VARCHAR(10))",
        "SELECT nothing(1)",
        "SELECT 1 NOT IN (SELECT (1))",
        "SELECT (1) IN ((1))",
        "SELECT a IS NOT (1) AND NOT (1 = (2))",
    ] {
        assert!(tokens(sql).is_ok(), "{sql}");
    }
}

#[test]
fn second_statements_are_found() {
    for sql in ["SELECT 1; SELECT 2", "SELECT 1;/**/x", "SELECT ';';';'", "DROP TABLE a; DROP TABLE b", "; SELECT 1"] {
        assert!(matches!(tokens(sql), Err(Malformed::SecondStatement { .. })), "{sql}");
    }
    assert_eq!(tokens(""), Err(Malformed::Empty));
    for sql in [" \n", "-- x", "/* x */"] {
        assert_eq!(tokens(sql), Err(Malformed::Empty), "{sql}");
    }
}

#[test]
fn what_is_unusual_is_refused() {
    for sql in [
        "SELECT 'a",
        "SELECT \"a",
        "SELECT [a",
        "SELECT `a",
        "SELECT 1 /* a",
        "SELECT /*",
        "SELECT x'0'",
        "SELECT x'0g'",
        "SELECT 1\0; DROP TABLE t",
        "SELECT\u{a0}1",
        "\u{feff}SELECT 1",
        "SELECT\u{b}1",
        "SELECT \u{200b}1",
        "SELECT 1a",
        "SELECT 0x",
        "SELECT 0X",
        "SELECT 0x1FG",
        "SELECT $a",
        "SELECT $1(x)",
        "SELECT $1::x",
        "SELECT $",
        "SELECT $$a$$",
        "SELECT :a",
        "SELECT @a",
        "SELECT #1",
        "SELECT a$b",
        "SELECT a^b",
        "SELECT {a}",
        "SELECT \\",
        "SELECT 1 ! 2",
        "SELECT (1",
        "SELECT 1)",
        "SELECT 1e5x",
        "SELECT 1_000",
    ] {
        assert!(matches!(tokens(sql), Err(Malformed::Token(_))), "{sql}: {:?}", tokens(sql));
    }
}

#[test]
fn numbers_and_parameters_are_single_tokens() {
    assert_eq!(
        text("SELECT 0x1F, .5, 1., 1.5e-3, ?, ?2, $3, größe, 名前"),
        "SELECT 0x1F, .5, 1., 1.5e-3, ?, ?2, $3, größe, 名前"
    );
}

#[test]
fn depth_is_bounded() {
    let chain = |count: usize| format!("SELECT 1{}", "+1".repeat(count));
    assert!(tokens(&chain(400)).is_ok());
    assert!(tokens(&chain(600)).is_err());
    let nested = |count: usize| format!("SELECT {}1{}", "(".repeat(count), ")".repeat(count));
    assert!(tokens(&nested(20)).is_ok());
    assert!(tokens(&nested(21)).is_err());
    // Long chains inside each other add up.
    let both = (0..20).fold("1".to_owned(), |inner, _| format!("({inner}{})", "+1".repeat(30)));
    assert!(tokens(&format!("SELECT {both}")).is_err());
    // What the parser would read in exponential time does not reach it.
    let position = format!("SELECT {}1{}", "position(".repeat(15), ")".repeat(15));
    assert_eq!(tokens(&position), Err(Malformed::Function("position".to_owned())));
    let from_in = format!("SELECT {}1{}", "* FROM in (SELECT ".repeat(15), ")".repeat(15));
    assert_eq!(tokens(&from_in), Err(Malformed::Function("in".to_owned())));
    // Beside each other they do not.
    let beside = vec!["1+1+1"; 1000].join(", ");
    assert!(tokens(&format!("SELECT {beside}")).is_ok());
}

proptest! {
    #[test]
    fn never_panics(sql in "\\PC{0,60}") {
        let _ = tokens(&sql);
    }

    /// Of what is written again too.
    #[test]
    fn cutting_is_stable_elsewhere(sql in "[ 'a-eE\"`;x0-9/*+<>|.,()\\[\\]?$=#!\\\\\n-]{0,40}", postgres: bool) {
        let syntax = if postgres { Syntax::Postgres } else { Syntax::Mysql };
        if let Ok(first) = super::tokens(&sql, syntax) {
            let second = super::tokens(&first.text, syntax).unwrap();
            prop_assert_eq!(&second.text, &first.text);
            prop_assert_eq!(second.quoted, first.quoted);
        }
    }

    /// Cutting again changes nothing: what the parser reads is what the engine reads.
    #[test]
    fn cutting_is_stable(sql in "[ 'a-e\"`;x0-9/*+<>|.,()\\[\\]?$=\\-\n]{0,40}") {
        if let Ok(first) = tokens(&sql) {
            let second = tokens(&first.text).unwrap();
            prop_assert_eq!(&second.text, &first.text);
            prop_assert_eq!(second.quoted, first.quoted);
        }
    }
}
