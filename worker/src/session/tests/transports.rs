//! What a session makes of the way in which its client is connected.

use super::*;

fn over(is_one_way: bool) -> Bench {
    let transport = Transport {
        session: Some("secret".into()),
        is_one_way,
        ..Transport::default()
    };
    let policy = policy(|policy| policy.node = "here".to_owned());
    Bench::over(transport, policy, None)
}

fn valid() -> String {
    token(json!({"sub": "42"}))
}

fn connect_result(bench: &mut Bench) -> Value {
    let replies = bench.connect(&valid());
    let reply: Value = serde_json::from_str(&replies[0]).unwrap();
    reply["connect"].clone()
}

#[test]
fn a_client_is_told_how_requests_find_its_session() {
    let result = connect_result(&mut over(false));
    assert_eq!(result["session"], "secret");
    assert_eq!(result["node"], "here");
    assert_eq!(result["pong"], true);
    // Over a socket of its own it needs neither.
    let result = connect_result(&mut Bench::new());
    assert_eq!(
        (&result["session"], &result["node"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn who_only_listens_is_pinged_and_need_not_answer() {
    let mut bench = over(true);
    let result = connect_result(&mut bench);
    assert_eq!(
        (&result["ping"], &result["pong"]),
        (&json!(25), &Value::Null)
    );
    assert_eq!(bench.pass(25), ["ping"]);
    assert!(bench.pass(8).is_empty());
    assert_eq!(bench.pass(25), ["ping"]);
}

#[test]
fn who_only_listens_is_refused_by_a_code_instead_of_an_error() {
    let expired = token(json!({"sub": "42", "exp": NOW_UNIX - 1}));
    assert_eq!(
        over(true).connect(&expired),
        ["close 3005 connection expired"]
    );
    let nowhere = token(json!({"sub": "42", "channels": ["nowhere:a"]}));
    assert_eq!(
        over(true).connect(&nowhere),
        ["close 3004 internal server error"]
    );
    assert_eq!(over(true).connect("x"), ["close 3500 invalid token"]);
    // Others decide by the error.
    let told = over(false).connect(&expired);
    assert!(told[0].contains("\"code\":109"), "{told:?}");
}

#[test]
fn who_only_listens_cannot_refresh_and_goes_when_its_time_is_over() {
    let mut bench = over(true);
    let replies = bench.connect(&token(json!({"sub": "42", "exp": NOW_UNIX + 10})));
    assert!(
        replies[0].contains("\"expires\":true,\"ttl\":10"),
        "{replies:?}"
    );
    assert!(bench.pass(9).is_empty());
    assert_eq!(bench.pass(1), ["close 3005 connection expired"]);
}
