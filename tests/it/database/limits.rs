//! What would take for ever or everything, and how the server goes on.

use std::time::{Duration, Instant};

use serde_json::{Map, json};

use super::world::World;

const ENDLESS: &str = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)";

fn bombs() -> Vec<(String, &'static [&'static str])> {
    let hexes = |count| format!("SELECT {}", vec!["hex(zeroblob(500000))"; count].join(", "));
    let long = "(SELECT replace(hex(zeroblob(250000)), '0', 'a'))";
    vec![
        (format!("{ENDLESS} SELECT count(*) FROM c"), &["timeout"]),
        (format!("{ENDLESS} SELECT x FROM c ORDER BY x DESC"), &["memory_limit", "timeout"]),
        (format!("{ENDLESS} SELECT group_concat(x) FROM c"), &["timeout", "value_too_large"]),
        (format!("{ENDLESS} SELECT json_group_array(x) FROM c"), &["timeout", "value_too_large", "memory_limit"]),
        (format!("{ENDLESS} SELECT count(DISTINCT x) FROM c"), &["timeout", "memory_limit"]),
        (format!("{ENDLESS} SELECT count(*) FROM c a, c b, c d"), &["timeout", "memory_limit"]),
        ("SELECT randomblob(1000000000)".to_owned(), &["value_too_large"]),
        ("SELECT hex(zeroblob(1000000000))".to_owned(), &["value_too_large"]),
        (
            "SELECT replace(replace(hex(zeroblob(9000)), '0', hex(zeroblob(9000))), '0', 'xx')".to_owned(),
            &["value_too_large"],
        ),
        (hexes(490), &["value_too_large"]),
        (hexes(600), &["too_many_columns"]),
        (format!("SELECT instr({long}, {long} || 'b')"), &["timeout", "ok"]),
        (format!("SELECT {long} LIKE '%{}b'", "a".repeat(5000)), &["query_failed"]),
        (format!("SELECT trim({long}, {long})"), &["function_not_allowed"]),
        (format!("SELECT 1{}", "+1".repeat(20_000)), &["not_parsed"]),
        (
            (0..14).fold("SELECT hex('a') AS x".to_owned(), |inner, _| format!("SELECT x || x AS x FROM ({inner})")),
            &["too_complex"],
        ),
        (format!("SELECT {}1{}", "position(".repeat(19), ")".repeat(19)), &["function_not_allowed"]),
        (format!("SELECT {}1{}", "* FROM in (SELECT -".repeat(19), ")".repeat(19)), &["function_not_allowed"]),
    ]
}

fn resident_mib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn expensive_statements_are_bounded_and_the_server_goes_on() {
    let world = World::new().await;
    let server = world.start();
    let before = world.files();
    for (sql, codes) in bombs() {
        let started = Instant::now();
        let called = server.call("query", json!({"sql": sql})).await;
        let code = called.structured["error"]["code"].as_str().unwrap_or("ok").to_owned();
        let shown: String = sql.chars().take(100).collect();
        assert!(codes.contains(&code.as_str()), "{shown}: {}", called.structured);
        assert!(started.elapsed() < Duration::from_secs(10), "{shown}: {:?}", started.elapsed());
        assert_eq!(server.ok("query", json!({"sql": "SELECT 1"})).await["rows"], json!([[1]]), "after {shown}");
    }
    let peak = resident_mib(server.pid().unwrap(), "VmHWM");
    assert!(peak < 400, "{peak} MiB");
    assert_eq!(world.files(), before);
    assert!(server.pollution().is_empty());
}

/// SQLite's limit on memory is one for the process, so the ledger would feel a statement that reaches it.
#[tokio::test]
async fn expensive_statements_do_not_keep_others_from_being_recorded() {
    let world = World::new().await;
    let server = world.start();
    server.ok("list_databases", json!({})).await;
    let multiplying = |expression: &str| {
        let level = |inner: String, _| format!("SELECT {expression} AS x FROM ({inner})");
        (0..12).fold("SELECT id AS x FROM orders".to_owned(), level)
    };
    let bombs = [
        multiplying("x||x||x||x"),
        multiplying("CASE WHEN x THEN x ELSE x END"),
        format!("{ENDLESS} SELECT x FROM c ORDER BY x DESC"),
        format!("{ENDLESS} SELECT randomblob(100000) AS b FROM c ORDER BY b"),
    ];
    let heavy = async {
        let calls = bombs.iter().cycle().take(12).map(|sql| server.call("query", json!({"sql": sql})));
        for called in futures::future::join_all(calls).await {
            let code = called.structured["error"]["code"].as_str().unwrap_or("ok").to_owned();
            assert!(["too_complex", "memory_limit", "timeout", "database_busy"].contains(&code.as_str()), "{code}");
        }
    };
    let light = async {
        for _ in 0..500 {
            server.ok("list_databases", json!({})).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::join!(heavy, light);
}

#[tokio::test]
async fn answers_stay_small() {
    let world = World::new().await;
    let server = world.start();
    for sql in [
        format!("{ENDLESS} SELECT x, hex(randomblob(1000)) FROM c"),
        format!("{ENDLESS} SELECT {} FROM c", vec!["char(1)||hex(randomblob(100))"; 100].join(", ")),
        format!("{ENDLESS} SELECT randomblob(200000) FROM c"),
    ] {
        let called = server.call("query", json!({"sql": sql})).await;
        assert!(!called.is_error, "{}", called.structured);
        assert_eq!(called.structured["truncated"], true);
        let bytes = called.structured.to_string().len();
        assert!(bytes < 130_000, "{bytes}");
    }
}

#[tokio::test]
async fn slow_queries_do_not_hold_up_others_for_ever() {
    let world = World::new().await;
    let server = world.start();
    server.ok("list_tables", json!({})).await;
    let slow = json!({"sql": format!("{ENDLESS} SELECT count(*) FROM c")});
    let started = Instant::now();
    let (one, two, three, four, five) = tokio::join!(
        server.call("query", slow.clone()),
        server.call("query", slow.clone()),
        server.call("query", slow.clone()),
        server.call("query", slow.clone()),
        async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            server.call("query", json!({"sql": "SELECT 1"})).await
        },
    );
    for called in [one, two, three, four] {
        assert_eq!(called.structured["error"]["code"], "timeout", "{}", called.structured);
    }
    // It waited for a slot, and got one.
    assert_eq!(five.structured["rows"], json!([[1]]), "{}", five.structured);
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn cancelled_query_stops_in_the_engine() {
    let world = World::with("[database.connections.shop]\nurl = 'sqlite:../data/shop.db'\ntimeout_ms = 50000\n").await;
    let server = world.start();
    server.ok("list_tables", json!({})).await;
    let slow = json!({"sql": format!("{ENDLESS} SELECT count(*) FROM c")});
    // The listing was request 1, so the query is request 2.
    let cancelled = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let notification = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2, "reason": "enough"}});
        server.write(format!("{notification}\n").as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    tokio::select! {
        _ = server.try_call("query", slow, Map::new()) => {}
        () = cancelled => {}
    }
    let busy = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let pid = server.pid().unwrap();
    let before = busy(pid);
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let ticks = busy(pid) - before;
    assert!(ticks < 20, "the engine still works: {ticks} ticks in a second");
    assert_eq!(server.ok("query", json!({"sql": "SELECT 1"})).await["rows"], json!([[1]]));
}
