//! Logins and TLS of the NATS connection, made of options.
//!
//! Owns: that at most one kind of login is given, that it is whole, and that files can be used.

use super::{NatsOptions, NatsTlsOptions};
use crate::broker::nats::{check_ca, check_pair, has_login};
use crate::broker::{NatsLogin, NatsSecret, NatsTls};
use crate::config::Problems;
use crate::secret::Secret;

impl NatsOptions {
    /// Who we are; nobody when there is a problem, which is then noted.
    pub(super) fn login(&self, key: &str, problems: &mut Problems) -> NatsLogin {
        let mut kinds = self.kinds_of_login();
        match has_login(&self.servers) {
            Ok(true) => kinds.insert(0, "servers"),
            Ok(false) => {}
            Err(error) => problems.add(&format!("{key}.servers"), error.to_string()),
        }
        if let [first, others @ ..] = &kinds[..] {
            for other in others {
                let problem =
                    format!("cannot be set together with {key}.{first}: one login is needed");
                problems.add(&format!("{key}.{other}"), problem);
            }
        }
        let login = self.written_login(key, problems).unwrap_or_default();
        // Whether a seed is one, for example. Secrets that cannot be read have been noted.
        if let Err(error) = login.answer(b"") {
            let name = kinds.first().map_or("", |name| name);
            problems.add(&format!("{key}.{name}"), error.to_string());
        }
        login
    }

    /// The setting that stands for each kind that is given.
    fn kinds_of_login(&self) -> Vec<&'static str> {
        let has_password = self.password.is_some() || self.password_file.is_some();
        let kinds = [
            ("user", self.user.is_some()),
            ("password", has_password && self.user.is_none()),
            ("token", self.token.is_some()),
            (
                "token_file",
                self.token_file.is_some() && self.token.is_none(),
            ),
            ("nkey_seed", self.nkey_seed.is_some()),
            (
                "nkey_seed_file",
                self.nkey_seed_file.is_some() && self.nkey_seed.is_none(),
            ),
            ("credentials", self.credentials.is_some()),
            (
                "credentials_file",
                self.credentials_file.is_some() && self.credentials.is_none(),
            ),
        ];
        let given = kinds.into_iter().filter(|(_, is_given)| *is_given);
        given.map(|(name, _)| name).collect()
    }

    fn written_login(&self, key: &str, problems: &mut Problems) -> Option<NatsLogin> {
        let mut secret = |name: &str, direct: &Option<Secret>, file: &Option<_>| {
            let key = format!("{key}.{name}");
            let found = Secret::resolve(&key, direct.as_ref(), file.as_deref(), problems)?;
            let path = file.clone();
            Some(
                path.map_or(NatsSecret::Here(found), |path| NatsSecret::File {
                    key,
                    path,
                }),
            )
        };
        let password = secret("password", &self.password, &self.password_file);
        let token = secret("token", &self.token, &self.token_file);
        let seed = secret("nkey_seed", &self.nkey_seed, &self.nkey_seed_file);
        let credentials = secret("credentials", &self.credentials, &self.credentials_file);
        let has_password = self.password.is_some() || self.password_file.is_some();
        match &self.user {
            Some(user) if user.is_empty() => {
                problems.add(&format!("{key}.user"), "must not be empty");
            }
            Some(_) if !has_password => {
                let problem = format!("is needed with {key}.user");
                problems.add(&format!("{key}.password"), problem);
            }
            None if has_password => {
                let problem = format!("is needed with {key}.password");
                problems.add(&format!("{key}.user"), problem);
            }
            _ => {}
        }
        let user = self.user.clone();
        let user = user.zip(password);
        user.map(|(user, password)| NatsLogin::Password { user, password })
            .or(token.map(NatsLogin::Token))
            .or(seed.map(NatsLogin::Nkey))
            .or(credentials.map(NatsLogin::Credentials))
    }
}

impl NatsTlsOptions {
    pub(super) fn files(&self, key: &str, problems: &mut Problems) -> NatsTls {
        if let Some(file) = &self.ca_file {
            problems.check(&format!("{key}.ca_file"), check_ca(file));
        }
        let certificate = self.certificate_file.clone().zip(self.key_file.clone());
        match &certificate {
            Some((certificate, private)) => {
                problems.check(
                    &format!("{key}.certificate_file"),
                    check_pair(certificate, private),
                );
            }
            None if self.certificate_file.is_some() || self.key_file.is_some() => {
                problems.add(key, "certificate_file and key_file go together");
            }
            None => {}
        }
        NatsTls {
            ca_file: self.ca_file.clone(),
            certificate,
        }
    }
}

#[cfg(test)]
mod tests {
    use nkeys::KeyPair;

    use super::*;

    const KEY: &str = "broker.nats";

    fn secret(text: &str) -> Option<Secret> {
        Some(Secret::new(text))
    }

    /// What is wrong with options that `change` was made to, one line for each.
    fn problems(change: impl FnOnce(&mut NatsOptions)) -> Vec<String> {
        let mut options = NatsOptions::default();
        change(&mut options);
        let mut problems = Problems::default();
        options.config(KEY, &mut problems);
        let refused = problems.finish(Some(())).err();
        let text = refused.map(|errors| errors.to_string()).unwrap_or_default();
        assert!(!text.contains("s3cr3t"), "{text}");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_kind_of_login_is_taken_alone() {
        let seed = KeyPair::new_user().seed().unwrap();
        assert!(problems(|_| {}).is_empty());
        assert!(problems(|nats| nats.servers = vec!["nats://a:s3cr3t@b".to_owned()]).is_empty());
        assert!(problems(|nats| nats.token = secret("s3cr3t")).is_empty());
        assert!(problems(|nats| nats.nkey_seed = secret(&seed)).is_empty());
        let user = |nats: &mut NatsOptions| {
            nats.user = Some("fleet".to_owned());
            nats.password = secret("s3cr3t");
        };
        assert!(problems(user).is_empty());
    }

    #[test]
    fn two_logins_are_one_too_many() {
        let both = problems(|nats| {
            nats.servers = vec!["nats://a:s3cr3t@b".to_owned()];
            nats.token = secret("s3cr3t");
        });
        let problem = "broker.nats.token: cannot be set together with broker.nats.servers: one login is needed";
        assert_eq!(both, [problem]);
        let three = problems(|nats| {
            nats.user = Some("fleet".to_owned());
            nats.password = secret("s3cr3t");
            nats.token = secret("s3cr3t");
            nats.nkey_seed = secret(&KeyPair::new_user().seed().unwrap());
        });
        let keys = three.iter().filter_map(|line| line.split(':').next());
        assert!(
            keys.eq(["broker.nats.token", "broker.nats.nkey_seed"]),
            "{three:?}"
        );
    }

    #[test]
    fn a_login_that_is_not_whole_is_refused_by_name() {
        assert_eq!(
            problems(|nats| nats.user = Some("fleet".to_owned())),
            ["broker.nats.password: is needed with broker.nats.user"]
        );
        assert_eq!(
            problems(|nats| nats.password = secret("s3cr3t")),
            ["broker.nats.user: is needed with broker.nats.password"]
        );
        assert_eq!(
            problems(|nats| nats.nkey_seed = secret("SUs3cr3t")),
            ["broker.nats.nkey_seed: is not the seed of a user's nkey (SU...)"]
        );
        let missing = problems(|nats| nats.credentials_file = Some("/nowhere/creds".into()));
        let problem = "broker.nats.credentials_file: cannot read /nowhere/creds: ";
        assert!(
            missing.len() == 1 && missing[0].starts_with(problem),
            "{missing:?}"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cr3t").unwrap();
        let wrong = problems(|nats| nats.credentials_file = Some(file.path().to_owned()));
        let problem = "broker.nats.credentials_file: is not the content of a credentials file";
        assert!(
            wrong.len() == 1 && wrong[0].starts_with(problem),
            "{wrong:?}"
        );
    }

    #[test]
    fn an_address_that_is_none_is_refused_at_the_start() {
        assert_eq!(
            problems(|nats| nats.servers = vec!["http://s3cr3t@a".to_owned()]),
            ["broker.nats.servers: address number 1 is malformed"]
        );
    }

    #[test]
    fn files_of_tls_are_checked_at_the_start() {
        let lone = problems(|nats| nats.tls.key_file = Some("/nowhere/key".into()));
        assert_eq!(
            lone,
            ["broker.nats.tls: certificate_file and key_file go together"]
        );
        let missing = problems(|nats| nats.tls.ca_file = Some("/nowhere/ca".into()));
        let problem = "broker.nats.tls.ca_file: cannot read /nowhere/ca: ";
        assert!(
            missing.len() == 1 && missing[0].starts_with(problem),
            "{missing:?}"
        );
    }
}
