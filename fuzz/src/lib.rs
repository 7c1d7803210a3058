//! The program's modules that read bytes of others, mounted from its source: they are private there,
//! and whatever they need besides stays out of this build.

#![allow(dead_code, unused_imports, unreachable_pub)]

#[path = "../../src/codec/mod.rs"]
pub mod codec;
#[path = "../../src/decode/mod.rs"]
pub mod decode;
pub mod samples;
#[path = "../../src/types/mod.rs"]
pub mod types;

/// Why the primary answers; part of the errors of `wire`.
#[path = "../../src/query"]
pub mod query {
    mod reason;
    pub use reason::*;
}

#[path = "../../src/primary"]
pub mod primary {
    mod error;
    mod message;
    mod scram_keys;

    pub use error::{ErrorKind, PrimaryError, ServerMessage};
    pub use message::Message;
    pub use scram_keys::ScramKeys;

    /// A login with keys in place of a password: the server's two messages.
    pub fn scram_login(first: &[u8], last: &[u8]) {
        let keys = ScramKeys {
            client_key: [1; 32].into(),
            stored_key: [2; 32],
            server_key: [3; 32],
            salt: "c2FsdA==".into(),
            iterations: 4096,
        };
        let mut exchange = scram_keys::Exchange::new(&keys);
        let nonce = exchange.first().rsplit_once("r=").map(|(_, nonce)| nonce.to_owned());
        let extended = format!("r={}", nonce.unwrap_or_default());
        // Half of the time with our own nonce in front, which no fuzzer would find.
        for first in [first.to_vec(), [extended.as_bytes(), first].concat()] {
            if exchange.last(&first).is_ok() {
                assert!(!exchange.is_proved(last), "nobody else has that key");
            }
        }
    }

    /// Bytes of a primary: found whole messages are read as what their tags say.
    pub fn backend(bytes: &[u8]) {
        let (Some((&step, mut bytes)), mut input) = (bytes.split_first(), message::Input::default()) else {
            return;
        };
        let step = usize::from(step) + 1;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(step.min(bytes.len()));
            bytes = later;
            let mut now = now;
            while !now.is_empty() {
                let mut filling = std::pin::pin!(input.fill(&mut now));
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                assert!(filling.as_mut().poll(&mut context).is_ready(), "a slice has everything at once");
            }
            loop {
                let peeked = match input.peek() {
                    Ok(peeked) => peeked.map(|(tag, body)| (tag, body.to_vec())),
                    Err(_) => return,
                };
                let Ok(message) = input.message() else { return };
                assert_eq!(peeked, message.as_ref().map(|m| (m.tag, m.body.to_vec())));
                match message {
                    Some(message) => read(&message),
                    None => break,
                }
            }
        }
    }

    fn read(message: &Message) {
        let error = ServerMessage::parse(&message.body);
        let _ = error.to_string();
        let _ = PrimaryError::Server(Box::new(error)).kind();
        let mut fields = message::Fields(&message.body);
        while fields.i16().is_ok() && fields.text().is_ok() && fields.i32().is_ok() && fields.bytes(1).is_ok()
        {
        }
    }

    use std::future::Future as _;
}

#[path = "../../src/wire"]
pub mod wire {
    mod end_point;
    mod error;
    mod frame;
    mod scram;
    mod startup;

    use bytes::BytesMut;
    use frame::{Frame, expand_formats};
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
    use scram::{Binding, Exchange, Verifier};
    use startup::Startup;

    /// A startup packet behind its length, or any refusal's report.
    pub fn startup(bytes: &[u8]) {
        let _ = end_point::certificate_hash(bytes);
        let Some((code, body)) = bytes.split_first_chunk::<4>() else { return };
        match Startup::read(u32::from_be_bytes(*code), body) {
            Ok(startup) => {
                assert!(!startup.user.is_empty() && !startup.database.is_empty());
                assert!((startup::PROTOCOL_3_0..=startup::PROTOCOL_3_2).contains(&startup.protocol));
                let texts = startup.parameters.iter().flat_map(|(name, value)| [name, value]);
                assert!(texts.chain(&startup.unknown).all(|text| !text.contains('\0')));
            }
            Err(problem) => assert!(problem.report().fatal),
        }
    }

    /// Messages of a client that has logged in.
    pub fn frontend(bytes: &[u8]) {
        let mut input = BytesMut::from(bytes);
        while let Ok(Some(frame)) = Frame::take(&mut input, 1 << 16) {
            assert_eq!(frame.body().len() + frame::HEADER, frame.bytes.len());
            let _ = (frame.query(), frame.execute(), frame.named());
            if let Ok(parse) = frame.parse() {
                assert!(parse.types.len() * 4 <= frame.body().len());
            }
            if let Ok(bind) = frame.bind() {
                let inside: usize = bind.params.iter().flatten().map(|param| param.len()).sum();
                assert!(inside + 4 * bind.params.len() <= frame.body().len());
                let _ = expand_formats(&bind.param_formats, bind.params.len());
                let _ = expand_formats(&bind.result_formats, 3);
            }
        }
    }

    /// Both sides of SCRAM, each against any bytes, and each other with one message changed.
    pub fn scram(bytes: &[u8]) {
        let Some((&choice, rest)) = bytes.split_first() else { return };
        let cut = rest.first().map_or(0, |&n| usize::from(n)).min(rest.len());
        let (first, last) = rest.split_at(cut);
        crate::primary::scram_login(first, last);
        let binding = [Binding::Impossible, Binding::Offered, Binding::Chosen(b"hash")];
        let binding = binding[usize::from(choice % 3)];
        let text = format!("SCRAM-SHA-256$1:c2FsdA==${0}:{0}", "A".repeat(43) + "=");
        let Some(verifier) = Verifier::parse(&text) else { panic!("{text} is a verifier") };
        let _ = std::str::from_utf8(rest).map(Verifier::parse);
        if let Ok(exchange) = Exchange::begin(verifier.clone(), first, binding) {
            assert!(exchange.finish(last).is_err(), "nobody knows a password that was never set");
        }
        let own = match choice % 3 {
            0 => ChannelBinding::unsupported(),
            1 => ChannelBinding::unrequested(),
            _ => ChannelBinding::tls_server_end_point(b"hash".to_vec()),
        };
        let mut client = ScramSha256::new(b"sesame", own);
        let honest = Exchange::begin(verifier, client.message(), binding);
        let server_first = match &honest {
            Ok(exchange) if choice & 0x80 != 0 => exchange.server_first().as_bytes().to_vec(),
            _ => first.to_vec(),
        };
        // A server may ask for so much work that it is not worth a fuzzer's time; the library bounds it.
        let costly =
            server_first.windows(2).any(|w| w == b"i=") && server_first.len() > 6 && choice & 0x80 == 0;
        if !costly && client.update(&server_first).is_ok() {
            assert!(client.finish(last).is_err(), "the server does not know the password either");
        }
    }
}
