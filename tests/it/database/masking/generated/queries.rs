//! Queries as analysts and attackers write them, well typed on every engine.

use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;

/// How deep expressions are.
const DEPTH: u32 = 2;

/// Whose syntax a query has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
    Mysql,
}

/// A part of a statement, or all of it.
#[derive(Clone, Debug)]
pub struct Query {
    pub sql: String,
    /// Whether it uses a masked column for more than to count it or to ask whether it is NULL.
    pub touches: bool,
}

type Part = BoxedStrategy<Query>;

/// What expressions may name.
#[derive(Clone, Debug)]
struct Scope {
    dialect: Dialect,
    /// What comes before the SELECT, and what it reads from.
    with: String,
    from: String,
    /// Columns and the like, and whether they are masked.
    texts: Vec<(String, bool)>,
    integers: Vec<(String, bool)>,
    /// Masked columns as they are, which may be counted and asked for NULL.
    counted: Vec<String>,
    touches: bool,
}

fn plain(sql: impl Into<String>) -> Query {
    Query { sql: sql.into(), touches: false }
}

/// Puts parts in the places of `{}`.
fn filled(form: &str, parts: &[Query]) -> Query {
    let mut pieces = form.split("{}");
    let mut sql = pieces.next().unwrap_or_default().to_owned();
    for (part, piece) in parts.iter().zip(pieces) {
        sql = sql + &part.sql + piece;
    }
    Query { sql, touches: parts.iter().any(|part| part.touches) }
}

fn with_one(form: &'static str, part: &Part) -> Part {
    part.clone().prop_map(move |part| filled(form, &[part])).boxed()
}

fn with_two(form: &'static str, one: &Part, two: &Part) -> Part {
    (one.clone(), two.clone()).prop_map(move |(one, two)| filled(form, &[one, two])).boxed()
}

fn any_of(parts: Vec<Part>) -> Part {
    proptest::strategy::Union::new(parts).boxed()
}

fn named(columns: &[(String, bool)], masked: bool) -> Part {
    let open = columns.iter().filter(|(_, is_masked)| !is_masked).cloned();
    let hidden = columns.iter().filter(|(_, is_masked)| *is_masked && masked).cloned();
    // As many of the masked ones as of the others, so that most statements have one.
    let (open, hidden): (Vec<_>, Vec<_>) = (open.collect(), hidden.collect());
    let one = |columns: Vec<(String, bool)>| {
        prop::sample::select(columns).prop_map(|(sql, touches)| Query { sql, touches }).boxed()
    };
    match (open.is_empty(), hidden.is_empty()) {
        (false, false) => prop_oneof![1 => one(open), 2 => one(hidden)].boxed(),
        (true, false) => one(hidden),
        (false, true) => one(open),
        (true, true) => Just(plain("NULL")).boxed(),
    }
}

impl Scope {
    fn literal(&self) -> Part {
        let cast = if self.dialect == Dialect::Postgres { "::text" } else { "" };
        let words = vec!["a", "Ada", "canary-a@hidden.test", "c%", "email", "x", ""];
        prop::sample::select(words).prop_map(move |word| plain(format!("'{word}'{cast}"))).boxed()
    }

    fn texts(&self, masked: bool, depth: u32) -> Part {
        let leaf = prop_oneof![5 => named(&self.texts, masked), 1 => self.literal()].boxed();
        let Some(depth) = depth.checked_sub(1) else { return leaf };
        let (text, truth) = (self.texts(masked, depth), self.truths(masked, depth));
        let joined = if self.dialect == Dialect::Mysql { "CONCAT({}, {})" } else { "({} || {})" };
        let mut parts = vec![
            leaf,
            with_one("upper({})", &text),
            with_one("({})", &text),
            with_one("substr({}, 1, 2)", &text),
            with_one("coalesce({}, '-')", &text),
            with_one("replace({}, 'a', 'b')", &text),
            with_two(joined, &text, &text),
            with_two("nullif({}, {})", &text, &text),
            with_two("CASE WHEN {} THEN {} ELSE '-' END", &truth, &text),
            Just(plain("(SELECT max(s.name) FROM users s)")).boxed(),
        ];
        if masked {
            let asked = ["(SELECT min(s.email) FROM users s)", "(SELECT s.ssn FROM users s WHERE s.id = 1)"];
            let asked = asked.map(|sql| Query { sql: sql.to_owned(), touches: true }).to_vec();
            parts.push(prop::sample::select(asked).boxed());
        }
        any_of(parts)
    }

    fn integers(&self, masked: bool, depth: u32) -> Part {
        let leaf = prop_oneof![3 => named(&self.integers, masked), 1 => (0..9_u8).prop_map(|number| plain(number.to_string()))];
        let Some(depth) = depth.checked_sub(1) else { return leaf.boxed() };
        let (text, number, truth) =
            (self.texts(masked, depth), self.integers(masked, depth), self.truths(masked, depth));
        any_of(vec![
            leaf.boxed(),
            with_one("length({})", &text),
            with_two("({} + {})", &number, &number),
            with_two("CASE WHEN {} THEN {} ELSE 0 END", &truth, &number),
            // Counting is what a masked column is for.
            Just(plain("(SELECT count(s.email) FROM users s)")).boxed(),
        ])
    }

    fn truths(&self, masked: bool, depth: u32) -> Part {
        let (text, number) =
            (self.texts(masked, depth.saturating_sub(1)), self.integers(masked, depth.saturating_sub(1)));
        let mut parts = vec![
            with_two("{} = {}", &text, &text),
            with_two("{} < {}", &text, &text),
            with_one("{} LIKE 'c%'", &text),
            with_one("{} BETWEEN 'b' AND 'd'", &text),
            with_one("{} IN ('Ada', 'canary-a@hidden.test')", &text),
            with_one("{} IS NULL", &text),
            with_two("{} < {}", &number, &number),
            with_two("{} = {}", &number, &number),
        ];
        if !self.counted.is_empty() {
            let asked = prop::sample::select(self.counted.clone());
            parts.push(asked.prop_map(|column| plain(format!("{column} IS NOT NULL"))).boxed());
        }
        if masked {
            for form in ["{} IN (SELECT s.email FROM users s)", "EXISTS (SELECT 1 FROM users s WHERE s.email > {})"] {
                parts.push(with_one(form, &text).prop_map(|part| Query { touches: true, ..part }).boxed());
            }
        }
        if let Some(depth) = depth.checked_sub(1) {
            let truth = self.truths(masked, depth);
            parts.extend([
                with_two("({} AND {})", &truth, &truth),
                with_two("({} OR {})", &truth, &truth),
                with_one("NOT ({})", &truth),
            ]);
        }
        any_of(parts)
    }

    /// A SELECT of `form`, which has a place for what is read from.
    fn select(&self, list: Part, tail: Part) -> Part {
        let scope = self.clone();
        (list, tail)
            .prop_map(move |(list, tail)| Query {
                sql: format!("{}SELECT {} FROM {}{}", scope.with, list.sql, scope.from, tail.sql),
                touches: scope.touches || list.touches || tail.touches,
            })
            .boxed()
    }

    /// What no two rows are equal in: in which order an engine has equal ones may depend on where its memory is.
    fn place(&self) -> Part {
        let open: Vec<&str> =
            self.integers.iter().filter(|(_, masked)| !masked).map(|(name, _)| name.as_str()).collect();
        Just(plain(open.join(", "))).boxed()
    }

    /// Nothing, or a WHERE.
    fn filter(&self, masked: bool) -> Part {
        prop_oneof![Just(plain("")), with_one(" WHERE {}", &self.truths(masked, DEPTH))].boxed()
    }

    fn statements(&self, masked: bool) -> Part {
        let (text, number) = (self.texts(masked, DEPTH), self.integers(masked, DEPTH));
        let filter = self.filter(masked);
        let key = named(&self.integers, masked);
        let listed = with_two("{} AS x, {} AS y", &text, &number);
        let place = self.place();
        let sorted_by = with_two("coalesce({}, ''), {}", &text, &place);
        let sorted = with_two("{} ORDER BY {}", &filter, &sorted_by);
        let counted = match self.counted.first() {
            Some(column) => format!("count({column})"),
            None => "count(*)".to_owned(),
        };
        let scope = self.clone();
        let grouped = (key, text.clone(), filter.clone(), 0..3_u32).prop_map(move |(key, text, filter, least)| Query {
            sql: format!(
                "{}SELECT {2} AS k, {counted} AS n, max({3}) AS m FROM {1}{4} GROUP BY {2} HAVING count(*) > {least} ORDER BY {2}",
                scope.with, scope.from, key.sql, text.sql, filter.sql
            ),
            touches: scope.touches || key.touches || text.touches || filter.touches,
        });
        any_of(vec![
            self.select(listed.clone(), filter.clone()),
            self.select(listed, sorted),
            self.select(with_one("DISTINCT {} AS x", &text), filter.clone()),
            self.select(with_two("{} AS x, row_number() OVER (ORDER BY {}) AS y", &number, &sorted_by), filter.clone()),
            self.select(with_two("lag({}) OVER (ORDER BY {}) AS x", &text, &sorted_by), filter.clone()),
            self.select(with_one("count(*) AS n, max({}) AS x", &text), filter.clone()),
            self.select(with_two("sum({}) AS n, min({}) AS x", &number, &text), filter),
            grouped.boxed(),
        ])
    }
}

fn columns(columns: &[(&str, bool)]) -> Vec<(String, bool)> {
    columns.iter().map(|(name, masked)| ((*name).to_owned(), *masked)).collect()
}

/// The tables as they are, joined, in subqueries, common table expressions and views.
fn scopes(dialect: Dialect, masked: bool) -> BoxedStrategy<Scope> {
    let users = Scope {
        dialect,
        with: String::new(),
        from: "users u".to_owned(),
        texts: columns(&[("u.name", false), ("u.email", true), ("u.ssn", true)]),
        integers: columns(&[("u.id", false), ("u.team", false)]),
        counted: vec!["u.email".to_owned(), "u.ssn".to_owned()],
        touches: false,
    };
    let bare = Scope {
        from: "users".to_owned(),
        texts: columns(&[("name", false), ("users.name", false), ("email", true), ("users.ssn", true)]),
        integers: columns(&[("id", false), ("users.team", false)]),
        counted: vec!["email".to_owned(), "users.ssn".to_owned()],
        ..users.clone()
    };
    let customers = Scope {
        from: "customers c".to_owned(),
        texts: columns(&[("c.email", false)]),
        integers: columns(&[("c.id", false)]),
        counted: Vec::new(),
        ..users.clone()
    };
    let names = Scope {
        from: "names v".to_owned(),
        texts: columns(&[("v.name", false)]),
        integers: columns(&[("v.id", false)]),
        ..customers.clone()
    };
    let joined = Scope {
        from: "customers c LEFT JOIN users u ON u.id = c.id".to_owned(),
        texts: [users.texts.clone(), customers.texts.clone()].concat(),
        integers: [users.integers.clone(), customers.integers.clone()].concat(),
        ..users.clone()
    };
    let mut rows = users.clone();
    if dialect == Dialect::Postgres {
        rows.texts.extend(columns(&[
            ("u::text", true),
            ("to_jsonb(u)::text", true),
            ("(u).email", true),
            ("(u.*)::text", true),
        ]));
    }
    let by_pair = {
        let joined = joined.clone();
        joined.truths(masked, 1).prop_map(move |on| Scope {
            from: format!("customers c JOIN users u ON {}", on.sql),
            touches: on.touches,
            ..joined.clone()
        })
    };
    // What is computed inside has another name outside.
    let derived = |place: fn(&str) -> (String, String)| {
        let users = users.clone();
        (users.texts(masked, 1), users.integers(masked, 1), users.filter(masked)).prop_map(
            move |(text, number, filter)| {
                let inner =
                    format!("SELECT u.id AS a, {} AS b, {} AS n FROM users u{}", text.sql, number.sql, filter.sql);
                let (with, from) = place(&inner);
                Scope {
                    with,
                    from,
                    texts: vec![("d.b".to_owned(), text.touches)],
                    integers: vec![("d.a".to_owned(), false), ("d.n".to_owned(), number.touches)],
                    counted: Vec::new(),
                    touches: text.touches || number.touches || filter.touches,
                    ..users.clone()
                }
            },
        )
    };
    let subquery = derived(|inner| (String::new(), format!("({inner}) d")));
    let common = derived(|inner| (format!("WITH w AS ({inner}) "), "w d".to_owned()));
    let renamed = derived(|inner| (format!("WITH w (a, b, n) AS ({inner}) "), "w AS d".to_owned()));
    let mut all = vec![
        Just(rows).boxed(),
        Just(bare).boxed(),
        Just(customers).boxed(),
        Just(names.clone()).boxed(),
        Just(joined).boxed(),
        by_pair.boxed(),
        subquery.boxed(),
        common.boxed(),
        renamed.boxed(),
    ];
    if masked {
        let people = Scope { from: "people v".to_owned(), touches: true, ..names };
        let people = Scope { texts: columns(&[("v.name", false), ("v.contact", true)]), ..people };
        let whole = Scope { from: "(SELECT * FROM users) v".to_owned(), ..people.clone() };
        let whole = Scope { texts: columns(&[("v.name", false), ("v.email", true)]), ..whole };
        let common =
            Scope { with: "WITH v AS (SELECT u.* FROM users u) ".to_owned(), from: "v".to_owned(), ..whole.clone() };
        all.extend([Just(people).boxed(), Just(whole).boxed(), Just(common).boxed()]);
    }
    proptest::strategy::Union::new(all).boxed()
}

/// Whole statements; with `masked`, many of them use masked columns.
pub fn query(dialect: Dialect, masked: bool) -> BoxedStrategy<Query> {
    let single = || scopes(dialect, masked).prop_flat_map(move |scope| scope.statements(masked));
    let one_text = || {
        scopes(dialect, masked).prop_flat_map(move |scope| {
            // A WITH belongs before the whole statement.
            let scope =
                Scope { from: if scope.with.is_empty() { scope.from.clone() } else { "names v".to_owned() }, ..scope };
            let scope = if scope.with.is_empty() {
                scope
            } else {
                Scope {
                    with: String::new(),
                    texts: columns(&[("v.name", false)]),
                    integers: columns(&[("v.id", false)]),
                    counted: Vec::new(),
                    touches: false,
                    ..scope
                }
            };
            let list = with_one("{} AS x", &scope.texts(masked, DEPTH));
            scope.select(list, scope.filter(masked))
        })
    };
    let words: &[&str] = if dialect == Dialect::Mysql {
        &["UNION", "UNION ALL"]
    } else {
        &["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]
    };
    let combined = (one_text(), prop::sample::select(words.to_vec()), one_text()).prop_map(|(one, word, two)| Query {
        sql: format!("{} {word} {}", one.sql, two.sql),
        touches: one.touches || two.touches,
    });
    let stars: &[&str] = if masked {
        &[
            "SELECT * FROM users",
            "SELECT u.* FROM users u WHERE u.email > 'b'",
            "SELECT DISTINCT * FROM users",
            "SELECT * FROM users ORDER BY 3, 4",
            "SELECT * FROM customers NATURAL JOIN users",
            "SELECT c.id FROM customers c JOIN users USING (email)",
        ]
    } else {
        &[
            "SELECT * FROM customers ORDER BY 1",
            "SELECT c.* FROM customers c JOIN users u ON u.id = c.id",
            "SELECT * FROM names",
        ]
    };
    let stars =
        prop::sample::select(stars.to_vec()).prop_map(move |sql| Query { sql: sql.to_owned(), touches: masked });
    prop_oneof![8 => single(), 2 => combined, 1 => stars].boxed()
}
