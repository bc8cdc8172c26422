//! Off means nothing at all, and a collector in trouble is nobody else's trouble.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::collector::{Collector, Mood};
use super::gateway::{serve, world};
use super::{RIGHT, configure, write};
use crate::task::world::World;

/// The names of the threads of a process.
fn threads(pid: u32) -> Vec<String> {
    let folders = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    folders.filter_map(|folder| fs::read_to_string(folder.path().join("comm")).ok()).collect()
}

#[tokio::test]
async fn nothing_is_begun_and_nothing_is_sent_until_somebody_says_where_to() {
    let collector = Collector::start(Mood::Takes);
    let url = collector.url();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str());
    let off = "[telemetry]\nenabled = false\n";
    let here = format!("[telemetry]\nendpoint = \"{url}\"\nenabled = false\n");
    let cases: [(&str, &[(&str, &str)], bool); 6] = [
        ("", &[], false),
        (off, &[endpoint], false),
        (&here, &[], false),
        ("", &[endpoint, ("OTEL_SDK_DISABLED", "true")], false),
        ("", &[endpoint, ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")], false),
        // As it is seen that something is begun and sent.
        (
            "",
            &[endpoint, ("OTEL_SERVICE_NAME", "from-the-environment"), ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")],
            true,
        ),
    ];
    for (config, variables, is_on) in cases {
        let world = world(config);
        let mut gateway = serve(world.path(), variables);
        let meta = json!({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"});
        let told = gateway.try_call("fixture__told", json!({}), meta.as_object().unwrap().clone()).await.unwrap();
        let told: Value = serde_json::from_str(&told.text).unwrap();
        let threads = threads(gateway.pid().unwrap());
        let begun = threads.iter().any(|name| name.starts_with("OpenTelemetry"));
        assert_eq!(begun, is_on, "{config} {variables:?}: {threads:?}");
        // What a host says goes through as it is, where nobody here has a part in it.
        assert_eq!(told["traceparent"] == meta["traceparent"], !is_on, "{told}");
        assert!(gateway.close().await.success());
        assert_eq!(collector.connections() > 0, is_on, "{config} {variables:?}");
    }
    assert_eq!(collector.resource()["service.name"], "from-the-environment");
    assert!(collector.header("x-key").iter().all(|value| value == "abc"));
}

#[test]
fn what_cannot_be_right_is_said_before_anything_is_done() {
    let world = World::new();
    configure(
        &world,
        "[telemetry]\nendpoint = \"http://collector.example.com\"\nheaders = { Authorization = \"Bearer ${TOKEN}\" }",
    );
    let output =
        world.command(&["run", "--task", "x", "--agent", "scripted:script.json"]).env("TOKEN", "s3cr3t").output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("telemetry.endpoint") && !said.contains("s3cr3t"), "{said}");
    let shown = world.command(&["--check-config"]).env("TOKEN", "s3cr3t").output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("Bearer ${TOKEN}") && !shown.contains("s3cr3t"), "{shown}");
    assert!(!world.path().join(".tollgate/sessions.db").exists());
}

#[test]
fn collector_in_trouble_neither_fails_nor_holds_up_a_task() {
    let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (hangs, says) = (Collector::start(Mood::Hangs), Collector::start(Mood::Says(500)));
    for (trouble, url) in [("down", format!("http://{down}")), ("hangs", hangs.url()), ("says 500", says.url())] {
        let world = World::new();
        configure(&world, &format!("[telemetry]\nendpoint = \"{url}\""));
        world.script(&json!({"turns": [write("calc.py", RIGHT)]}));
        let mut command = world.command(&["run", "--task", "x", "--agent", "scripted:script.json", "--format", "json"]);
        // Something is on its way at every moment.
        command
            .args(["--accept", "true"])
            .env("OTEL_BSP_SCHEDULE_DELAY", "50")
            .env("OTEL_METRIC_EXPORT_INTERVAL", "50");
        let mut running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(running.stdout.take().unwrap()).lines();
        let mut ended = Instant::now();
        let mut last = Value::Null;
        for line in lines {
            last = serde_json::from_str(&line.unwrap()).unwrap();
            if last["event"] == "end" {
                ended = Instant::now();
            }
        }
        let output = running.wait_with_output().unwrap();
        let late = ended.elapsed();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && last["ending"] == "done", "{trouble}: {said}");
        // Three seconds are what the end waits at most; the servers end in the meantime of a busy machine.
        assert!(late < Duration::from_secs(8), "{trouble}: {late:?}");
        if trouble == "hangs" {
            assert!(late > Duration::from_secs(2), "nobody waited for the collector: {late:?}");
        } else {
            assert_eq!(said.matches("the collector does not take telemetry").count(), 1, "{trouble}: {said}");
        }
        assert_eq!(said.matches("telemetry was dropped").count(), 1, "{trouble}: {said}");
    }
}

#[tokio::test]
async fn calls_do_not_wait_for_a_collector_that_hangs() {
    let collector = Collector::start(Mood::Hangs);
    let world = world(&super::to(&collector));
    let delay =
        [("OTEL_BSP_SCHEDULE_DELAY", "20"), ("OTEL_BSP_MAX_QUEUE_SIZE", "8"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")];
    let mut gateway = serve(world.path(), &delay);
    gateway.call("fixture__echo", json!({"text": "first"})).await;
    let begun = Instant::now();
    while collector.connections() == 0 && begun.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(collector.connections() > 0, "nothing was sent");
    let begun = Instant::now();
    for number in 0..50 {
        let called = gateway.call("fixture__echo", json!({"text": number.to_string()})).await;
        assert!(!called.is_error, "{}", called.structured);
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(gateway.close().await.success());
    let said = gateway.stderr();
    let dropped = said.lines().find(|line| line.contains("telemetry was dropped")).unwrap_or_else(|| panic!("{said}"));
    // 51 calls of two spans each: more than the queue takes, and nobody kept the rest.
    assert!(dropped.contains("of=102"), "{dropped}");
}
