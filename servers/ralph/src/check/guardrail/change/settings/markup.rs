//! Thresholds and switches in files of Maven, Gradle and MSBuild.

use std::collections::BTreeSet;

use super::keys::Loosens::{Down, Longer, Off, On};
use super::loosened::loosened;
use super::{FileChange, Findings, LOOSENED};

/// Thresholds and switches in files of Maven, Gradle and MSBuild.
pub(super) fn markup(file: &FileChange, findings: &mut Findings) {
    let name = file.name();
    if !(name == "pom.xml"
        || name.ends_with(".gradle")
        || name.ends_with(".gradle.kts")
        || name.ends_with(".csproj")
        || name.ends_with(".props"))
    {
        return;
    }
    let read = |text: &str| -> Vec<(String, String)> {
        text.lines()
            .filter_map(|line| {
                let line = line.trim();
                let (key, value) = match line.strip_prefix('<') {
                    Some(rest) => {
                        let (key, rest) = rest.split_once('>')?;
                        (key, rest.split('<').next()?)
                    }
                    None => line.split_once('=').map(|(key, value)| (key.trim(), value.trim()))?,
                };
                let key = key.rsplit(['.', ' ']).next()?.to_ascii_lowercase();
                let value = value
                    .trim_matches(['"', '\'', ' ', ';'])
                    .trim_end_matches(".toBigDecimal()")
                    .trim_matches('"')
                    .to_owned();
                matches!(
                    key.as_str(),
                    "minimum"
                        | "treatwarningsaserrors"
                        | "testfailureignore"
                        | "skiptests"
                        | "ignorefailures"
                        | "failonviolation"
                        | "failonerror"
                        | "nowarn"
                        | "threshold"
                        | "isignorefailures"
                        | "enabled"
                        | "allwarningsaserrors"
                )
                .then_some((key, value))
            })
            .collect()
    };
    let (old, new) = (read(file.before_text()), read(file.after_text()));
    let say = |key: &str, message: String, findings: &mut Findings| {
        let line =
            file.after_text().lines().position(|line| line.to_ascii_lowercase().contains(key)).map_or(0, |at| at + 1);
        findings.add(&LOOSENED, &file.path, file.after_text(), line, message);
    };
    for key in [
        "minimum",
        "threshold",
        "treatwarningsaserrors",
        "allwarningsaserrors",
        "failonviolation",
        "failonerror",
        "testfailureignore",
        "skiptests",
        "ignorefailures",
        "isignorefailures",
        "nowarn",
    ] {
        let values = |list: &[(String, String)]| -> Vec<String> {
            list.iter().filter(|(name, _)| name == key).map(|(_, value)| value.clone()).collect()
        };
        let (was, is) = (values(&old), values(&new));
        if was == is || key == "threshold" && name.ends_with(".props") {
            continue;
        }
        let loosens = match key {
            "minimum" => Down,
            "treatwarningsaserrors" | "allwarningsaserrors" | "failonviolation" | "failonerror" => Off,
            "nowarn" => Longer,
            "threshold" => continue,
            _ => On,
        };
        for at in 0..was.len().max(is.len()) {
            let (before, after) = (was.get(at), is.get(at));
            let message = if loosens == Longer {
                let codes = |value: Option<&String>| -> BTreeSet<String> {
                    value
                        .map(|value| {
                            value
                                .split([';', ','])
                                .map(|code| code.trim().to_owned())
                                .filter(|code| !code.is_empty() && !code.starts_with("$("))
                                .collect()
                        })
                        .unwrap_or_default()
                };
                codes(after).difference(&codes(before)).next().map(|code| format!("{key} now has {code}"))
            } else {
                loosened(key, before, after, loosens)
            };
            if let Some(message) = message {
                say(key, message, findings);
            }
        }
    }
}
