//! The forms of secrets.
//!
//! Written from what the providers document of their own tokens.

/// What makes a match a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The form alone.
    Form,
    /// At least so many tenths of a bit of entropy in each byte.
    Random(u32),
    /// A private key with a body.
    Key,
    /// A token whose parts can be read.
    Jwt,
    /// A password in a connection's address.
    Password,
    /// A value by its name alone.
    Generic,
}

/// One form.
#[derive(Debug)]
pub struct Pattern {
    /// In the id of the rule.
    pub id: &'static str,
    /// In words.
    pub what: &'static str,
    /// One of these is in every match; case does not matter.
    pub words: &'static [&'static str],
    /// The form; the first group is the secret.
    pub regex: &'static str,
    /// What else it takes.
    pub proof: Proof,
    /// How far behind the word a match may reach.
    pub reach: Option<usize>,
}

const fn form(
    id: &'static str,
    what: &'static str,
    words: &'static [&'static str],
    regex: &'static str,
    proof: Proof,
) -> Pattern {
    Pattern { id, what, words, regex, proof, reach: None }
}

/// Every form, the generic ones last.
pub static PATTERNS: &[Pattern] = &[
    form(
        "aws_access_key",
        "an AWS access key",
        &["AKIA", "ASIA", "ABIA", "ACCA"],
        r"\b((?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16})\b",
        Proof::Random(28),
    ),
    form(
        "aws_secret_key",
        "an AWS secret key",
        &["aws", "secretaccesskey", "secret_access_key"],
        r#"(?i)aws_?(?:session_?)?(?:secret)?_?(?:access)?_?key(?:_id)?['"]?\s*(?::|=>|=|,|:=)\s*['"]?([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)"#,
        Proof::Random(40),
    ),
    form(
        "aws_secret_key",
        "an AWS secret key",
        &["secretaccesskey", "secret_access_key", "secretkey"],
        r#"(?i)secret_?(?:access_?)?key['"]?\s*(?::|=>|=|,|:=)\s*['"]([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)"#,
        Proof::Random(40),
    ),
    form(
        "github_token",
        "a GitHub token",
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        r"\b(gh[pousr]_[A-Za-z0-9]{36,251})\b",
        Proof::Random(32),
    ),
    form(
        "github_token",
        "a GitHub token",
        &["github_pat_"],
        r"\b(github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})\b",
        Proof::Random(32),
    ),
    form(
        "gitlab_token",
        "a GitLab token",
        &["glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "glsoat-", "gloas-", "glft-", "glagent-", "GR1348941"],
        r"\b((?:glpat|gldt|glrt|glptt|glcbt|glsoat|gloas|glft|glagent)-[A-Za-z0-9_\-]{20,60}|GR1348941[A-Za-z0-9_\-]{20})",
        Proof::Random(30),
    ),
    form(
        "slack_token",
        "a Slack token",
        &["xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxe", "xapp-"],
        r"\b(xox[baprs]-[A-Za-z0-9-]{20,200}|xoxe(?:\.xox[bp])?-[A-Za-z0-9-]{20,200}|xapp-\d-[A-Za-z0-9-]{20,200})",
        Proof::Random(28),
    ),
    form(
        "slack_webhook",
        "a Slack webhook",
        &["hooks.slack.com"],
        r"(https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{30,80})",
        Proof::Random(36),
    ),
    form(
        "stripe_key",
        "a Stripe key",
        &["sk_live_", "rk_live_", "sk_test_", "rk_test_", "whsec_"],
        r"\b((?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,247}|whsec_[A-Za-z0-9+/]{32,64})",
        Proof::Random(30),
    ),
    form(
        "google_api_key",
        "a Google API key",
        &["AIza"],
        r"\b(AIza[A-Za-z0-9_\-]{35})(?:[^A-Za-z0-9_\-]|$)",
        Proof::Random(36),
    ),
    form(
        "google_oauth",
        "a Google OAuth secret",
        &["GOCSPX-", "ya29."],
        r"\b(GOCSPX-[A-Za-z0-9_\-]{28}|ya29\.[A-Za-z0-9_\-]{30,300})",
        Proof::Random(34),
    ),
    form(
        "azure_storage_key",
        "an Azure storage key",
        &["AccountKey="],
        r"(?i)AccountKey=([A-Za-z0-9+/]{86}==)",
        Proof::Random(45),
    ),
    form(
        "azure_shared_key",
        "an Azure access key",
        &["SharedAccessKey=", "sig="],
        r"(?i)(?:SharedAccessKey=([A-Za-z0-9+/]{43}=))|[?&]sig=[A-Za-z0-9%+/]{43,80}",
        Proof::Random(40),
    ),
    form(
        "azure_client_secret",
        "an Azure client secret",
        &["8Q~", "7Q~"],
        r"\b([A-Za-z0-9_~.]{3}[78]Q~[A-Za-z0-9_~.\-]{31,34})",
        Proof::Random(36),
    ),
    form(
        "npm_token",
        "an npm token",
        &["npm_", "_authToken"],
        r#"\b(npm_[A-Za-z0-9]{36})\b|_authToken\s*=\s*['"]?([A-Za-z0-9\-]{36,})"#,
        Proof::Random(32),
    ),
    form("pypi_token", "a PyPI token", &["pypi-AgE"], r"\b(pypi-AgE[A-Za-z0-9_\-]{50,300})", Proof::Random(38)),
    form(
        "openai_key",
        "an OpenAI key",
        &["sk-proj-", "sk-svcacct-", "T3BlbkFJ", "sk-admin-"],
        r"\b(sk-(?:proj|svcacct|admin)-[A-Za-z0-9_\-]{40,200}|sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20})",
        Proof::Random(38),
    ),
    form(
        "anthropic_key",
        "an Anthropic key",
        &["sk-ant-"],
        r"\b(sk-ant-(?:api|admin|oat)\d\d-[A-Za-z0-9_\-]{60,120})",
        Proof::Random(38),
    ),
    form("huggingface_token", "a Hugging Face token", &["hf_"], r"\b(hf_[A-Za-z]{30,40})\b", Proof::Form),
    form(
        "sendgrid_key",
        "a SendGrid key",
        &["SG."],
        r"\b(SG\.[A-Za-z0-9_\-]{20,24}\.[A-Za-z0-9_\-]{39,50})",
        Proof::Random(38),
    ),
    form("twilio_key", "a Twilio key", &["SK", "twilio"], r"\b(SK[0-9a-f]{32})\b", Proof::Random(28)),
    form("mailgun_key", "a Mailgun key", &["key-"], r"\b(key-[0-9a-f]{32})\b", Proof::Random(28)),
    form("mailchimp_key", "a Mailchimp key", &["-us"], r"\b([0-9a-f]{32}-us\d{1,2})\b", Proof::Random(28)),
    form(
        "digitalocean_token",
        "a DigitalOcean token",
        &["dop_v1_", "doo_v1_", "dor_v1_"],
        r"\b(do[opr]_v1_[0-9a-f]{64})\b",
        Proof::Random(28),
    ),
    form(
        "shopify_token",
        "a Shopify token",
        &["shpat_", "shpss_", "shpca_", "shppa_"],
        r"\b(shp(?:at|ss|ca|pa)_[0-9a-fA-F]{32})\b",
        Proof::Random(28),
    ),
    form(
        "square_token",
        "a Square token",
        &["sq0atp-", "sq0csp-", "EAAA"],
        r"\b(sq0atp-[A-Za-z0-9_\-]{22}|sq0csp-[A-Za-z0-9_\-]{43}|EAAA[A-Za-z0-9_\-]{60})",
        Proof::Random(36),
    ),
    form(
        "telegram_token",
        "a Telegram bot token",
        &[":AA"],
        r"\b(\d{8,10}:AA[A-Za-z0-9_\-]{33})(?:[^A-Za-z0-9_\-]|$)",
        Proof::Random(36),
    ),
    form(
        "discord_webhook",
        "a Discord webhook",
        &["discord.com/api/webhooks", "discordapp.com/api/webhooks"],
        r"(https://discord(?:app)?\.com/api/webhooks/\d{17,20}/[A-Za-z0-9_\-]{60,80})",
        Proof::Random(40),
    ),
    form(
        "discord_token",
        "a Discord token",
        &["discord"],
        r#"(?i)discord[^\n]{0,40}['"]([MNO][A-Za-z0-9_\-]{23,27}\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{27,40})"#,
        Proof::Random(36),
    ),
    form("vault_token", "a Vault token", &["hvs.", "hvb."], r"\b(hv[sb]\.[A-Za-z0-9_\-]{24,200})", Proof::Random(34)),
    form("docker_token", "a Docker token", &["dckr_pat_"], r"\b(dckr_pat_[A-Za-z0-9_\-]{27})", Proof::Random(32)),
    form("databricks_token", "a Databricks token", &["dapi"], r"\b(dapi[0-9a-f]{32})(?:-\d)?\b", Proof::Random(28)),
    form("new_relic_key", "a New Relic key", &["NRAK-"], r"\b(NRAK-[A-Z0-9]{27})\b", Proof::Random(30)),
    form(
        "grafana_token",
        "a Grafana token",
        &["glsa_", "glc_"],
        r"\b(glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}|glc_[A-Za-z0-9+/]{40,200}={0,2})",
        Proof::Random(32),
    ),
    form("linear_key", "a Linear key", &["lin_api_"], r"\b(lin_api_[A-Za-z0-9]{40})\b", Proof::Random(34)),
    form(
        "atlassian_token",
        "an Atlassian token",
        &["ATATT3"],
        r"\b(ATATT3[A-Za-z0-9_\-=]{150,220})",
        Proof::Random(40),
    ),
    form("rubygems_key", "a RubyGems key", &["rubygems_"], r"\b(rubygems_[0-9a-f]{48})\b", Proof::Random(28)),
    form("crates_token", "a crates.io token", &["cio"], r"\b(cio[A-Za-z0-9]{32})\b", Proof::Random(36)),
    form(
        "age_key",
        "an age key",
        &["AGE-SECRET-KEY-1"],
        r"(AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58})",
        Proof::Form,
    ),
    form("postman_key", "a Postman key", &["PMAK-"], r"\b(PMAK-[0-9a-f]{24}-[0-9a-f]{34})\b", Proof::Random(28)),
    form(
        "facebook_token",
        "a Facebook token",
        &["EAACEdEose0cBA"],
        r"\b(EAACEdEose0cBA[A-Za-z0-9]{20,})",
        Proof::Random(30),
    ),
    Pattern {
        id: "private_key",
        what: "a private key",
        words: &["PRIVATE KEY"],
        regex: r"(-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-[^-]){20,6000}?-----END)",
        proof: Proof::Key,
        reach: Some(6_200),
    },
    Pattern {
        id: "jwt",
        what: "a JSON Web Token",
        words: &["eyJ"],
        regex: r"\b(eyJ[A-Za-z0-9_\-]{10,}\.eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{20,})",
        proof: Proof::Jwt,
        reach: Some(3_000),
    },
    form(
        "connection_string",
        "a connection string with a password",
        &["://"],
        r#"\b(?:postgres(?:ql)?(?:\+\w+)?|mysql(?:\+\w+)?|mariadb(?:\+\w+)?|mongodb(?:\+srv)?|rediss?|amqps?|mssql(?:\+\w+)?|sqlserver|oracle(?:\+\w+)?|cockroachdb|clickhouse|nats|ftps?|sftp|smtps?|ldaps?|couchdb|https?)://[^\s:/@'"`<>{}$]{0,64}:([^\s:/@'"`<>{}]{4,128})@[A-Za-z0-9\[]"#,
        Proof::Password,
    ),
    form(
        "connection_string",
        "a connection string with a password",
        &["password=", "pwd="],
        r#"(?i)(?:server|data source|host|user id|uid|database|initial catalog)\s*=[^;'"\n]{1,100};[^'"\n]{0,200}?\b(?:password|pwd)\s*=\s*([^;'"\s]{4,100})"#,
        Proof::Password,
    ),
    form(
        "basic_auth",
        "credentials in a header",
        &["basic ", "bearer "],
        r#"(?i)authorization['"]?\s*[:=,]\s*['"`]?(?:basic|bearer)\s+([A-Za-z0-9+/_\-.=]{20,300})"#,
        Proof::Random(32),
    ),
    form(
        "generic",
        "a value that looks like a secret",
        &["key", "token", "secret", "passw", "pwd", "credential", "auth", "salt", "passphrase"],
        r#"(?i)(?:[a-z0-9_\-.\[\]$]{0,40}?)(?:api[_\-]?key|secret|token|passw(?:or)?d|passwd|passphrase|\bpwd|_pwd|private[_\-]?key|access[_\-]?key|auth[_\-]?key|encryption[_\-]?key|signing[_\-]?key|master[_\-]?key|credentials?|client[_\-]?secret|authkey|apikey|secret[_\-]?key)[a-z0-9_\-]{0,30}['"\]]{0,3}(?:\s*:\s*(?:&?(?:'static\s+)?(?:str|string|String))\b)?\s*(?::=|=>|=|:|,)\s*(?:[a-zA-Z.]{0,20}\()?(?:[rbu]?)['"`]([^'"`\s]{12,200})['"`]"#,
        Proof::Generic,
    ),
    // Files of settings: `NAME=value` without quotes.
    form(
        "generic",
        "a value that looks like a secret",
        &["key", "token", "secret", "passw", "pwd", "credential"],
        r#"(?m)^\s*(?:export\s+)?[A-Z0-9_]{0,40}(?:API_?KEY|SECRET|TOKEN|PASSWORD|PASSWD|PWD|PRIVATE_KEY|ACCESS_KEY|CREDENTIAL)[A-Z0-9_]{0,30}=([A-Za-z0-9+/=_\-.!@#%^&*~]{12,200})\s*$"#,
        Proof::Generic,
    ),
    form(
        "generic",
        "a value that looks like a secret",
        &["key", "token", "secret", "passw", "credential"],
        r#"(?m)^\s*[a-z0-9_\-.]{0,40}(?:api[_\-]?key|secret|token|password|passwd|private[_\-]?key|access[_\-]?key)[a-z0-9_\-]{0,20}:\s+([A-Za-z0-9+/=_\-.!@#%^&*~]{16,200})\s*$"#,
        Proof::Generic,
    ),
];
