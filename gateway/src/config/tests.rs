//! What is refused, and how it is told.

use super::*;

fn problems(change: impl FnOnce(&mut RawConfig)) -> String {
    let mut raw = RawConfig::default();
    change(&mut raw);
    let mut problems = Problems::default();
    let config = Config::resolve(&raw, &mut problems);
    match problems.finish(config) {
        Ok(_) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn the_defaults_make_sense() {
    assert_eq!(problems(|_| {}), "");
}

#[test]
fn everything_that_makes_no_sense_is_told_at_once() {
    let told = problems(|raw| {
        raw.path = "websocket?".to_owned();
        raw.allowed_origins = vec!["*".to_owned(), "example.com".to_owned()];
        raw.identity.mode = IdentityMode::Required;
        raw.pool.workers = vec!["worker".to_owned()];
        raw.pool.load_factor = 0.5;
        raw.sticky = vec!["user".to_owned(), "ip".to_owned()];
        raw.forward_headers = vec!["X-Flotilla-Passport".to_owned(), "Host".to_owned()];
        raw.tls.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        raw.head_timeout = Duration::ZERO;
    });
    let keys: Vec<&str> = told
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    let expected = [
        "head_timeout",
        "pool.workers.0",
        "pool.load_factor",
        "path",
        "path",
        "allowed_origins.1",
        "forward_headers.0",
        "forward_headers.1",
        "identity.mode",
        "sticky.1",
        "tls",
    ];
    assert_eq!(keys, expected, "{told}");
}

#[test]
fn the_server_api_is_not_put_before_the_public_by_accident() {
    let forward = |change: &dyn Fn(&mut RawConfig)| {
        problems(|raw| {
            raw.http_api.forward = true;
            change(raw);
        })
    };
    let public = SocketAddr::from(([0, 0, 0, 0], 8000));
    assert_eq!(forward(&|_| {}), "");
    let refused = "http_api.forward: is for development";
    assert!(forward(&|raw| raw.listen = public).starts_with(refused));
    assert!(forward(&|raw| raw.tls.listen = Some(public)).contains(refused));
    let insisted = forward(&|raw| {
        raw.listen = public;
        raw.http_api.forward_insecure_public = true;
    });
    assert_eq!(insisted, "");
}

#[test]
fn endpoints_do_not_get_in_each_others_way() {
    let told = problems(|raw| raw.path = "/emulation".to_owned());
    assert_eq!(told.trim(), "path: is that of another endpoint which is on");
    let told = problems(|raw| {
        raw.path = "/connection/sse".to_owned();
        raw.sse.enabled = false;
    });
    assert_eq!(told, "");
    let told = problems(|raw| raw.emulation.enabled = false);
    assert!(told.starts_with("sse.enabled: needs emulation"), "{told}");
    assert!(told.contains("\nhttp_stream.enabled: needs"), "{told}");
}

#[test]
fn cookies_do_not_identify_the_users_of_foreign_pages() {
    let cookies = |origin: &str| {
        problems(|raw| {
            raw.identity.cookie_name = Some("token".to_owned());
            raw.allowed_origins = vec![origin.to_owned()];
        })
    };
    assert!(cookies("*").starts_with("allowed_origins: must name the origins"));
    assert_eq!(cookies("https://example.com"), "");
    let passed_on = |origin: &str| {
        problems(|raw| {
            raw.forward_headers = vec!["cookie".to_owned()];
            raw.allowed_origins = vec![origin.to_owned()];
        })
    };
    assert!(passed_on("*").starts_with("allowed_origins: must name the origins"));
    assert_eq!(passed_on("https://example.com"), "");
}

#[test]
fn a_pool_needs_workers_from_somewhere() {
    assert!(problems(|raw| raw.pool.workers.clear()).starts_with("pool.workers: "));
    let told = problems(|raw| {
        raw.pool.workers.clear();
        raw.pool.roster = true;
    });
    assert_eq!(told, "");
}

#[test]
fn a_certificate_that_cannot_be_read_is_a_mistake_in_the_configuration() {
    let told = problems(|raw| {
        raw.tls.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        raw.tls.certificate_file = Some("/nowhere/certificate.pem".into());
        raw.tls.key_file = Some("/nowhere/key.pem".into());
    });
    assert!(told.starts_with("tls: "), "{told}");
    assert!(told.contains("/nowhere/certificate.pem"), "{told}");
}

#[test]
fn links_need_a_key_that_workers_know_the_gateway_by() {
    let told = problems(|raw| raw.pool.transport = Transport::Link);
    assert!(told.starts_with("pool.transport: link needs"), "{told}");
    let told = problems(|raw| {
        raw.pool.transport = Transport::Link;
        raw.passport.secret_key = Some(flotilla_shared::secret::Secret::new("k".repeat(32)));
    });
    assert_eq!(told, "");
}
