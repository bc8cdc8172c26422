//! What the chain must hold against.

use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use proptest::prelude::*;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};
use tempfile::TempDir;

use super::*;
use crate::audit::AuditEntry;
use crate::identity::Agent;
use crate::ids::EntryId;
use crate::money::Currency;
use crate::receipt::{Outcome, Receipt};
use crate::state_dir::StateDir;

fn ledger(folder: &TempDir) -> Ledger {
    Ledger::new(StateDir::choose(Some(folder.path()), Path::new("/")))
}

fn receipt() -> Receipt {
    Receipt {
        id: EntryId::generate(),
        server: "git".into(),
        tool: "git_status".into(),
        amount: "0.00001".parse().unwrap(),
        currency: Currency::Usd,
        lines: vec![],
        cached: false,
        saved: Default::default(),
        outcome: Outcome::Ok,
        code: None,
        duration_ms: 1,
        agent: Agent { name: "tester".into(), role: None },
        task_id: None,
        call_id: None,
        started_at: jiff::Timestamp::now(),
    }
}

fn entry() -> NewEntry {
    NewEntry::receipt(&receipt()).unwrap()
}

fn decision() -> NewEntry {
    NewEntry::audit(&AuditEntry {
        id: EntryId::generate(),
        at: jiff::Timestamp::now(),
        action: "refused".into(),
        server: "git".into(),
        tool: "git_commit".into(),
        code: Some("protected_branch".into()),
        reason: "main is protected".into(),
        agent: Agent { name: "tester".into(), role: None },
        task_id: None,
        receipt_id: EntryId::generate(),
        detail: serde_json::Value::Null,
    })
    .unwrap()
}

/// Opens the file as somebody who means harm does: with the triggers gone.
async fn tamper(ledger: &Ledger) -> SqliteConnection {
    let mut connection = SqliteConnectOptions::new().filename(ledger.path()).connect().await.unwrap();
    sqlx::raw_sql(
        "DROP TRIGGER entry_is_not_changed; DROP TRIGGER entry_is_not_dropped;
         DROP TRIGGER entry_follows_head; DROP TRIGGER entry_becomes_head;
         PRAGMA ignore_check_constraints = ON;",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection
}

async fn with_entries(count: usize) -> (TempDir, Ledger) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(&folder);
    for number in 0..count {
        ledger.append(if number % 3 == 2 { vec![decision(), entry()] } else { vec![entry()] }).await.unwrap();
    }
    (folder, ledger)
}

#[tokio::test]
async fn no_ledger_is_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let found = verify(&ledger(&folder), None).await.unwrap();
    assert!(found.is_whole());
    assert_eq!(found.head, Head::EMPTY);
}

#[tokio::test]
async fn honest_entries_verify() {
    let (_folder, ledger) = with_entries(9).await;
    let found = verify(&ledger, None).await.unwrap();
    assert_eq!((found.receipts, found.decisions, found.faults.len()), (9, 3, 0));
    let again = verify(&ledger, Some(found.head)).await.unwrap();
    assert!(again.is_whole());
}

#[tokio::test]
async fn many_at_once_are_all_written_once() {
    let folder = tempfile::tempdir().unwrap();
    // Two ledgers on one file stand for two processes.
    let ledgers = [Arc::new(ledger(&folder)), Arc::new(ledger(&folder))];
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let ledger = Arc::clone(&ledgers[number % 2]);
            tokio::spawn(async move { ledger.append(vec![decision(), entry()]).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let found = verify(&ledgers[0], None).await.unwrap();
    assert_eq!((found.receipts, found.decisions, found.faults), (200, 200, vec![]));
}

#[tokio::test]
async fn write_ahead_log_has_an_end_under_steady_load() {
    let (_folder, ledger) = with_entries(1).await;
    let log = ledger.path().with_extension("db-wal");
    // The log is some 12 KiB longer after each entry until it is begun anew; a slow disk may take several checkpoints.
    let mut longest = 0;
    let begun_anew = async {
        loop {
            for _ in 0..200 {
                ledger.append(vec![entry()]).await.unwrap();
            }
            let length = std::fs::metadata(&log).unwrap().len();
            if length == longest {
                return;
            }
            longest = length;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), begun_anew).await.expect("the log grows for ever");
    assert!(verify(&ledger, None).await.unwrap().is_whole());
}

#[tokio::test]
async fn the_same_id_counts_once() {
    let (_folder, ledger) = with_entries(1).await;
    let entry = entry();
    assert!(ledger.append_once(entry.clone()).await.unwrap());
    assert!(!ledger.append_once(entry.clone()).await.unwrap());
    ledger.append(vec![self::entry()]).await.unwrap();
    // Indexed or not.
    append::checkpoint(&ledger.path());
    assert!(!ledger.append_once(entry.clone()).await.unwrap());
    let found = verify(&ledger, None).await.unwrap();
    assert_eq!((found.receipts, found.faults), (3, vec![]));
}

#[tokio::test]
async fn entries_of_a_period_are_found_indexed_or_not() {
    let (_folder, ledger) = with_entries(3).await;
    // Ids tell milliseconds apart.
    let since = async || {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        jiff::Timestamp::now()
    };
    let since = since().await;
    ledger.append(vec![entry(), decision()]).await.unwrap();
    let counts = async || {
        let mut reader = ledger.reader().await.unwrap().unwrap();
        let all = reader.receipts(None).count().await;
        (all, reader.receipts(Some(since)).count().await, reader.decisions(Some(since)).count().await)
    };
    assert_eq!(counts().await, (4, 1, 1));
    append::checkpoint(&ledger.path());
    assert_eq!(counts().await, (4, 1, 1));
    ledger.append(vec![entry()]).await.unwrap();
    assert_eq!(counts().await, (5, 2, 1));
    assert!(verify(&ledger, None).await.unwrap().is_whole());
}

#[tokio::test]
async fn entry_that_its_id_does_not_lead_to_is_found() {
    // Whoever takes an entry out of the index hides it from those who ask for a period.
    for change in [
        "DELETE FROM entry_id WHERE seq = 4",
        "UPDATE entry_id SET seq = 99 WHERE seq = 4",
        "UPDATE entry_id SET id = 'z' || id WHERE seq = 4",
        "UPDATE indexed SET seq = 6",
    ] {
        let (_folder, ledger) = with_entries(4).await;
        append::checkpoint(&ledger.path());
        ledger.append(vec![entry()]).await.unwrap();
        assert!(verify(&ledger, None).await.unwrap().is_whole());
        sqlx::raw_sql(change).execute(&mut tamper(&ledger).await).await.unwrap();
        assert_eq!(verify(&ledger, None).await.unwrap().faults.len(), 1, "{change}");
    }
}

#[tokio::test]
async fn ledger_of_the_first_version_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let mut connection = SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await.unwrap();
    let first = store::MIGRATOR.iter().next().unwrap().clone();
    let only = sqlx::migrate::Migrator { migrations: vec![first].into(), ..sqlx::migrate::Migrator::DEFAULT };
    only.run_direct(None, &mut connection, false).await.unwrap();
    let (entry, mut head) = (entry(), Head::EMPTY);
    for entry in [&entry, &decision()] {
        let next = head.after(&entry.id.to_string(), entry.kind.as_str(), &entry.body);
        sqlx::query("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)")
            .bind(next.seq)
            .bind(entry.id.to_string())
            .bind(entry.kind.as_str())
            .bind(entry.body.clone())
            .bind(head.hash.as_bytes().to_vec())
            .bind(next.hash.as_bytes().to_vec())
            .execute(&mut connection)
            .await
            .unwrap();
        head = next;
    }
    connection.close().await.unwrap();
    let ledger = ledger(&folder);
    assert!(!ledger.append_once(entry).await.unwrap());
    ledger.append(vec![self::entry()]).await.unwrap();
    let found = verify(&ledger, Some(head)).await.unwrap();
    assert_eq!((found.receipts, found.decisions, found.faults), (2, 1, vec![]));
}

#[tokio::test]
async fn honest_programs_cannot_change_entries() {
    let (_folder, ledger) = with_entries(3).await;
    let mut connection = SqliteConnectOptions::new().filename(ledger.path()).connect().await.unwrap();
    for statement in [
        "UPDATE entry SET body = '{}' WHERE seq = 1",
        "DELETE FROM entry",
        "INSERT INTO entry SELECT 9, 'x', kind, body, prev, hash FROM entry WHERE seq = 1",
    ] {
        assert!(sqlx::raw_sql(statement).execute(&mut connection).await.is_err(), "{statement}");
    }
}

#[tokio::test]
async fn dropped_entries_are_found_wherever_they_stood() {
    for drop in ["seq = 1", "seq = 3", "seq = (SELECT max(seq) FROM entry)", "seq > 2", "seq > 0"] {
        let (_folder, ledger) = with_entries(6).await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DELETE FROM entry WHERE {drop}")))
            .execute(&mut tamper(&ledger).await)
            .await
            .unwrap();
        assert!(!verify(&ledger, None).await.unwrap().is_whole(), "{drop}");
    }
}

#[tokio::test]
async fn swapped_entries_are_found() {
    let (_folder, ledger) = with_entries(5).await;
    for columns in ["id, kind, body", "id, kind, body, hash", "id, kind, body, prev, hash"] {
        let (_folder, ledger) = with_entries(5).await;
        let set: Vec<String> = columns.split(", ").map(|c| format!("{c} = o.{c}")).collect();
        let swap = format!(
            "CREATE TEMP TABLE old AS SELECT * FROM entry; UPDATE entry SET id = 'swapping-' || seq WHERE seq IN (2, 4);
             UPDATE entry SET {} FROM old o WHERE o.seq = 6 - entry.seq AND entry.seq IN (2, 4);",
            set.join(", ")
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(swap)).execute(&mut tamper(&ledger).await).await.unwrap();
        assert!(!verify(&ledger, None).await.unwrap().is_whole(), "{columns}");
    }
    assert!(verify(&ledger, None).await.unwrap().is_whole());
}

#[tokio::test]
async fn entries_are_never_written_into_a_removed_file() {
    let (_folder, ledger) = with_entries(2).await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", ledger.path().display()));
    }
    ledger.append(vec![entry()]).await.unwrap();
    let found = verify(&ledger, None).await.unwrap();
    assert_eq!((found.receipts, found.faults), (1, vec![]));
}

#[tokio::test]
async fn moved_entries_and_moved_heads_are_found() {
    for change in [
        "UPDATE entry SET seq = 99 WHERE seq = 2",
        "UPDATE entry SET seq = seq + 1000",
        "UPDATE entry SET seq = seq + 1 WHERE seq = (SELECT max(seq) FROM entry)",
        "UPDATE head SET seq = seq + 1",
        "UPDATE head SET hash = zeroblob(32)",
        "UPDATE head SET seq = 0, hash = zeroblob(32)",
        "DELETE FROM head",
    ] {
        let (_folder, ledger) = with_entries(4).await;
        sqlx::raw_sql(change).execute(&mut tamper(&ledger).await).await.unwrap();
        let whole = verify(&ledger, None).await.is_ok_and(|found| found.is_whole());
        assert!(!whole, "{change}");
    }
}

#[tokio::test]
async fn ledger_cut_back_with_its_head_is_found_with_a_noted_head() {
    let (_folder, ledger) = with_entries(6).await;
    let noted = verify(&ledger, None).await.unwrap().head;
    sqlx::raw_sql(
        "DELETE FROM entry WHERE seq > 3;
         UPDATE head SET seq = 3, hash = (SELECT hash FROM entry WHERE seq = 3);",
    )
    .execute(&mut tamper(&ledger).await)
    .await
    .unwrap();
    assert!(verify(&ledger, None).await.unwrap().is_whole(), "without a noted head this cannot be seen");
    let faults = verify(&ledger, Some(noted)).await.unwrap().faults;
    assert_eq!(faults, [Fault::NotedHeadMissing { noted }]);
}

#[tokio::test]
async fn appending_behind_a_forged_entry_does_not_heal_the_chain() {
    let (_folder, ledger) = with_entries(4).await;
    sqlx::raw_sql("UPDATE entry SET body = replace(body, '0.00001', '0.00002') WHERE seq = 2")
        .execute(&mut tamper(&ledger).await)
        .await
        .unwrap();
    let faults = verify(&ledger, None).await.unwrap().faults;
    assert_eq!(faults, [Fault::Changed { seq: 2 }]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Flips one bit of one byte of one column of one entry, or of the head.
    #[test]
    fn any_changed_byte_is_found(seq in 1_i64..=8, column in 0_usize..5, byte in any::<prop::sample::Index>(), bit in 0_u8..7) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_folder, ledger) = with_entries(6).await;
            let mut connection = tamper(&ledger).await;
            let column = ["id", "kind", "body", "prev", "hash"][column];
            let row = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT CAST({column} AS BLOB) FROM entry WHERE seq = ?")))
                .bind(seq).fetch_one(&mut connection).await.unwrap();
            let mut value: Vec<u8> = row.get(0);
            let place = byte.index(value.len());
            value[place] ^= 1 << bit;
            let target = if matches!(column, "prev" | "hash") { "?" } else { "CAST(? AS TEXT)" };
            sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE entry SET {column} = {target} WHERE seq = ?")))
                .bind(value).bind(seq).execute(&mut connection).await.unwrap();
            // Text that is no longer UTF-8 cannot even be read, which is found as well.
            let whole = verify(&ledger, None).await.is_ok_and(|found| found.is_whole());
            prop_assert!(!whole, "a flipped bit {bit} of byte {place} of {column} of entry {seq} was not found");
            Ok(())
        })?;
    }
}
