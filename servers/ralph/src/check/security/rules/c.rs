//! C.

use super::{Category, Of, Setting, Sink, Table, Test, When};

/// The rules.
pub static TABLE: Table = Table { sinks: SINKS, settings: SETTINGS, sources: SOURCES, handlers: &[] };

static SOURCES: &[&str] =
    &["getenv", "secure_getenv", "FCGX_GetParam", "mg_get_http_var", "cgiFormString", "MHD_lookup_connection_value"];

/// What gives back a text of the program in another language.
const TRANSLATED: &[&str] = &["_(", "gettext", "tr("];

static SINKS: &[Sink] = &[
    Sink {
        category: Category::CommandInjection,
        calls: &["system", "popen", "_popen", "wordexp"],
        of: Of::At(0),
        when: When::Shell,
        with: &[],
    },
    Sink {
        category: Category::CommandInjection,
        calls: &["execl", "execlp", "execle", "execv", "execvp", "posix_spawn", "posix_spawnp"],
        of: Of::Any,
        when: When::Program,
        with: &[],
    },
    Sink {
        category: Category::CommandInjection,
        calls: &["execl", "execlp", "execv", "execvp", "dlopen"],
        of: Of::At(0),
        when: When::Tainted,
        with: &[],
    },
    Sink {
        category: Category::CodeInjection,
        calls: &["luaL_dostring", "luaL_loadstring", "PyRun_String", "duk_eval_string", "JS_Eval", "Tcl_Eval"],
        of: Of::At(1),
        when: When::Dynamic,
        with: &[],
    },
    Sink {
        category: Category::CodeInjection,
        calls: &["PyRun_SimpleString", "PyRun_String"],
        of: Of::At(0),
        when: When::Dynamic,
        with: &[],
    },
    Sink {
        category: Category::CodeInjection,
        calls: &["printf", "vprintf"],
        of: Of::At(0),
        when: When::Tainted,
        with: &[],
    },
    // A format that is not written there, and nothing to put into it.
    Sink {
        category: Category::CodeInjection,
        calls: &["printf", "wprintf"],
        of: Of::At(0),
        when: When::Dynamic,
        with: &[("", Test::AtNot(0, TRANSLATED)), ("", Test::AtNot(1, &[""]))],
    },
    Sink {
        category: Category::CodeInjection,
        calls: &["fprintf", "syslog", "sprintf", "dprintf"],
        of: Of::At(1),
        when: When::Dynamic,
        with: &[("", Test::AtNot(1, TRANSLATED)), ("", Test::AtNot(2, &[""]))],
    },
    Sink {
        category: Category::Sql,
        calls: &[
            "sqlite3_exec",
            "sqlite3_prepare",
            "sqlite3_prepare_v2",
            "sqlite3_prepare_v3",
            "sqlite3_get_table",
            "mysql_query",
            "mysql_real_query",
            "mysql_stmt_prepare",
            "PQexec",
            "PQsendQuery",
            "PQprepare",
            "SQLExecDirect",
            "PQexecParams",
            "OCIStmtPrepare",
        ],
        of: Of::Any,
        when: When::Sql,
        with: &[],
    },
    Sink {
        category: Category::PathTraversal,
        calls: &[
            "fopen", "open", "openat", "freopen", "unlink", "remove", "rename", "opendir", "stat", "rmdir", "chdir",
            "mkdir", "fopen64",
        ],
        of: Of::Any,
        when: When::Tainted,
        with: &[],
    },
    Sink {
        category: Category::Tls,
        calls: &["curl_easy_setopt"],
        of: Of::Any,
        when: When::Always,
        with: &[
            ("", Test::At(1, &["CURLOPT_SSL_VERIFYPEER", "CURLOPT_SSL_VERIFYHOST", "CURLOPT_PROXY_SSL_VERIFYPEER"])),
            ("", Test::At(2, &["0", "false", "FALSE"])),
        ],
    },
    Sink {
        category: Category::Tls,
        calls: &["SSL_CTX_set_verify", "SSL_set_verify"],
        of: Of::Any,
        when: When::Always,
        with: &[("", Test::At(1, &["SSL_VERIFY_NONE"]))],
    },
    Sink {
        category: Category::Tls,
        calls: &["mbedtls_ssl_conf_authmode"],
        of: Of::Any,
        when: When::Always,
        with: &[("", Test::At(1, &["VERIFY_NONE", "VERIFY_OPTIONAL"]))],
    },
    Sink {
        category: Category::Tls,
        calls: &["gnutls_certificate_set_verify_flags"],
        of: Of::Any,
        when: When::Always,
        with: &[("", Test::At(1, &["DISABLE", "ALLOW_ANY"]))],
    },
    Sink {
        category: Category::PasswordHash,
        calls: &[
            "MD5",
            "SHA1",
            "SHA256",
            "SHA512",
            "MD4",
            "MD5_Update",
            "SHA1_Update",
            "SHA256_Update",
            "SHA512_Update",
            "EVP_DigestUpdate",
            "CC_MD5",
            "CC_SHA1",
            "CC_SHA256",
            "gcry_md_write",
            "mbedtls_md5",
            "mbedtls_sha1",
            "mbedtls_sha256",
            "EVP_Digest",
            "MD5_update",
            "md5_buffer",
            "crypto_hash_sha256",
        ],
        of: Of::Any,
        when: When::Password,
        with: &[],
    },
    Sink { category: Category::PasswordHash, calls: &["crypt"], of: Of::At(1), when: When::SystemFile, with: &[] },
    Sink {
        category: Category::Xss,
        calls: &["printf", "fprintf", "FCGI_printf", "mg_printf", "mg_http_reply"],
        of: Of::Any,
        when: When::Html,
        with: &[],
    },
    Sink {
        category: Category::Xss,
        calls: &["printf", "FCGI_printf"],
        of: Of::From(1),
        when: When::Tainted,
        with: &[("", Test::At(0, &["<p", "<h", "<b", "<div", "<td", "<li", "<span", "<a ", "<t", "<i"]))],
    },
    Sink {
        category: Category::SystemFile,
        calls: &["fopen", "open", "openat", "ifstream", "system", "popen", "fopen64", "execl", "execlp"],
        of: Of::Any,
        when: When::SystemFile,
        with: &[],
    },
    Sink {
        category: Category::Destructive,
        calls: &["chmod", "fchmod", "fchmodat"],
        of: Of::At(0),
        when: When::Always,
        with: &[("", Test::At(1, &["0777", "0666", "S_IRWXO"]))],
    },
    Sink {
        category: Category::Destructive,
        calls: &["remove", "rmdir", "unlink"],
        of: Of::At(0),
        when: When::Root,
        with: &[],
    },
    Sink { category: Category::Memory, calls: &["gets"], of: Of::Any, when: When::Always, with: &[] },
    Sink {
        category: Category::Memory,
        calls: &["strcpy", "strcat", "stpcpy", "wcscpy", "wcscat"],
        of: Of::At(1),
        when: When::Dynamic,
        with: &[],
    },
    Sink {
        category: Category::Memory,
        calls: &["sprintf", "vsprintf"],
        of: Of::From(2),
        when: When::Dynamic,
        with: &[("", Test::At(1, &["%s"]))],
    },
    Sink {
        category: Category::Memory,
        calls: &["scanf", "sscanf", "fscanf"],
        of: Of::Any,
        when: When::Always,
        with: &[("", Test::At(0, &["%s"]))],
    },
    Sink {
        category: Category::Memory,
        calls: &["sscanf", "fscanf"],
        of: Of::Any,
        when: When::Always,
        with: &[("", Test::At(1, &["%s"]))],
    },
];

static SETTINGS: &[Setting] = &[];
