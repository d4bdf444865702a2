//! A worker whose broker is away.

use super::moves::{SUBSCRIBE, again, is_join, state};
use super::*;

fn is_cut_off(heard: &ForGateway) -> Option<bool> {
    match heard {
        ForGateway::Condition(condition) => Some(condition.is_cut_off),
        _ => None,
    }
}

#[tokio::test]
async fn gateways_are_told_that_the_broker_is_away_and_that_it_is_back() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            let began = std::time::Instant::now();
            worker.broker.turn(true);
            assert_eq!(is_cut_off(&gateway.hear().await), Some(true));
            assert!(began.elapsed() >= Duration::from_secs(1));
            let (mut late, _) = Gateway::dial(&worker).await;
            assert_eq!(is_cut_off(&late.hear().await), Some(true));
            worker.broker.turn(false);
            assert_eq!(is_cut_off(&gateway.hear().await), Some(false));
            assert_eq!(is_cut_off(&late.hear().await), Some(false));
            let (mut later, _) = Gateway::dial(&worker).await;
            later.open(1).await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_session_that_comes_while_the_broker_is_away_goes_on_when_it_is_back() {
    at_work(
        |_| {},
        async |before| {
            let (mut gateway, _) = Gateway::dial(&before).await;
            gateway.open(1).await;
            let mut heard = gateway.talk(1, 1, CONNECT).await;
            heard.extend(gateway.talk(1, 2, SUBSCRIBE).await);

            let worker = Box::pin(Worker::start(|_| {})).await;
            let (mut gateway, _) = Gateway::dial(&worker).await;
            worker.broker.turn(true);
            let unsubscribe = r#"{"id":3,"unsubscribe":{"channel":"news"}}"#;
            let again = again(1, 2, state(&heard), 0, &[unsubscribe]);
            gateway.say(again).await;
            let is_told = |heard: &ForGateway| is_cut_off(heard) == Some(true);
            let heard = gateway.hear_until(is_told).await;
            // By then it has been tried several times.
            assert_eq!(kinds(&heard), ["opened", "keep_alive", "condition"]);
            worker.broker.turn(false);
            let heard = gateway.hear_until(|heard| is_ack(heard, 1, 3)).await;
            assert!(heard.iter().any(|heard| is_join(heard, 1)));
            assert_eq!(sent(&heard, 1), [r#"{"id":3,"unsubscribe":{}}"#]);
        },
    )
    .await;
}
