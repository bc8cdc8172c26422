//! `.gitmodules` that git takes for an attack on whoever clones with submodules.

/// Returns what git would refuse in the `.gitmodules` of this content, as its own check of objects does.
#[must_use]
pub fn fault(content: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(content);
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            // Read eagerly: whatever stands in the header may be the name.
            if line.split(['"', '/', '\\']).any(|part| part == "..") {
                return Some("a submodule's name leads out of its folder");
            }
        } else if let Some((key, value)) = line.split_once('=') {
            let key = key.trim().to_ascii_lowercase();
            let value = value.trim().trim_start_matches('"');
            if matches!(&*key, "url" | "path") && value.starts_with('-') {
                return Some("a submodule's address or path is an option");
            }
            if key == "update" && value.starts_with('!') {
                return Some("a submodule is updated by a program");
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_are_told_from_submodules() {
        for text in [
            "[submodule \"../../hooks\"]\n\tpath = s\n",
            "[submodule \"a/../b\"]\n",
            "[submodule \"s\"]\n\turl = --upload-pack=touch pwned\n",
            "[submodule \"s\"]\n\turl=\"-x\"\n",
            "[submodule \"s\"]\n\tpath = -x\n",
            "[submodule \"s\"]\n\tUPDATE = !touch pwned\n",
        ] {
            assert!(fault(text.as_bytes()).is_some(), "{text}");
        }
        for text in [
            "",
            "[submodule \"vendor/lib\"]\n\tpath = vendor/lib\n\turl = ../lib.git\n\tbranch = a-b\n",
            "[submodule \"a..b\"]\n\turl = https://example.com/a-b.git\n\tupdate = rebase\n",
        ] {
            assert_eq!(fault(text.as_bytes()), None, "{text}");
        }
    }
}
