//! The rules that every authority must keep. Each has a test of its own, which bears its number, and those
//! in the table that show more of it. The table is checked: a test that is renamed or removed is missed.

mod lists;
mod names;
mod status;

use std::path::Path;

/// How many there are.
const COUNT: usize = 26;

/// Rule, where it comes from, and more tests of it.
type Rule = (&'static str, &'static str, &'static [&'static str]);

const RULES: &[Rule] = &[
    (
        "01 serials are positive, at most 20 octets, of 80 random bits, and never used twice",
        "RFC 5280 §4.1.2.2",
        &["own_serials_are_positive_and_of_fixed_length", "crash_matrix", "rival_failures"],
    ),
    (
        "02 the issuer's name is the authority's subject, octet by octet, in certificates and lists",
        "RFC 5280 §4.1.2.4, §5.1.2.3, §7.1",
        &[
            "every_rule_between_a_certificate_and_its_issuer_speaks",
            "every_rule_between_a_list_and_its_issuer_speaks",
        ],
    ),
    (
        "03 generations have names of their own",
        "RFC 5280 §6.1",
        &["rule_03_every_authority_has_a_name_and_a_key_id_of_its_own"],
    ),
    (
        "04 names come from the person, only the key from the request, after it was proved",
        "RFC 2986 §4, RFC 5280 §4.1.2.6",
        &["every_usual_request_becomes_a_certificate_that_openssl_verifies", "rival_failures"],
    ),
    (
        "05 first and last second count, and are written by their century",
        "RFC 5280 §4.1.2.5",
        &["validity_table"],
    ),
    ("06 no leaf outlives its issuer", "RFC 5280 §6.1.3 (a)(2)", &["bad_profiles", "rival_failures"]),
    (
        "07 a renewal is decided anew, and what was revoked is not renewed",
        "practice",
        &["a_renewal_keeps_device_and_lineage_and_a_revoked_certificate_is_not_renewed", "one_gate"],
    ),
    (
        "08 authorities and leaves bear their constraints, usages and key identifiers",
        "RFC 5280 §4.2.1",
        &["lint", "every_rule_of_a_list_speaks"],
    ),
    (
        "09 leaves are for clients alone",
        "RFC 5280 §4.2.1.12",
        &["openssl_takes_a_client_certificate_for_a_client_and_nothing_else"],
    ),
    (
        "10 an authority's names are bounded by what its leaves bear",
        "RFC 5280 §4.2.1.10",
        &["rule_10_a_leaf_bears_no_kind_of_name_but_address_and_uri"],
    ),
    (
        "11 places are plain HTTP, the same in leaf and list",
        "RFC 5280 §4.2.1.13, §5.2.5",
        &["rule_11_the_place_in_a_leaf_is_the_place_in_its_list", "bad_profiles"],
    ),
    (
        "12 lists are version 2 with number and end, and numbers only rise",
        "RFC 5280 §5.1.2, §5.2.3",
        &["every_rule_of_a_list_speaks", "crash_matrix"],
    ),
    (
        "13 the next list comes long before the end of the last",
        "RFC 5280 §6.3.3",
        &["a_list_is_made_at_first_and_again_only_when_there_is_a_reason", "health_findings"],
    ),
    (
        "14 lists say what they are for in the words that OpenSSL takes",
        "RFC 5280 §5.2.5",
        &[
            "openssl_lets_a_leaf_pass_until_it_is_listed_with_any_reason",
            "openssl_notices_that_a_list_is_for_another_place",
        ],
    ),
    ("15 an entry stays until it was on a list after its end", "RFC 5280 §3.3", &["rival_failures"]),
    (
        "16 reasons are given, final but for keyCompromise, and never zero",
        "RFC 5280 §5.3.1",
        &[
            "openssl_reads_every_field_and_the_signature",
            "a_revoked_certificate_is_refused_when_the_call_answers_and_stays_revoked",
        ],
    ),
    (
        "17 an authority goes on the list of the one above it",
        "RFC 5280 §6.3",
        &["rule_17_an_authority_that_issues_no_more_goes_on_listing"],
    ),
    (
        "18 good is said only of what was issued and not taken back, unknown of what never was",
        "RFC 6960 §2.2",
        &["good_is_said_only_of_what_was_issued_and_not_taken_back", "agreement"],
    ),
    (
        "19 the one who answers is certified by the authority's own key for that alone, and briefly",
        "RFC 6960 §4.2.2.2",
        &[
            "a_delegate_is_made_when_asked_for_and_renewed_at_half_of_its_life",
            "every_rule_of_an_ocsp_signer_speaks",
        ],
    ),
    (
        "20 answers are for one name and key, repeat the nonce, bear their times, and agree with the list",
        "RFC 6960 §4.1.1, RFC 9654 §2.1",
        &["a_nonce_is_repeated_and_strangers_are_not_answered_for", "agreement", "third_party"],
    ),
    (
        // No profile makes certificates without status information, so the extension is never written.
        "21 no certificate says that nothing is known of its revocation",
        "RFC 9608 §3",
        &["every_rule_of_a_client_certificate_speaks"],
    ),
    (
        "22 the next key is the next generation, and nothing is issued that outlives this one",
        "RFC 5280 §6.1.3",
        &["health_findings"],
    ),
    ("23 what is signed is what was looked at", "practice", &["crash_matrix", "bad_profiles"]),
    (
        // There is no ACME server and no SCEP here: of the protocols, EST is ours.
        "24 a re-enrolment keeps the names of its certificate",
        "RFC 7030 §4.2.2",
        &[
            "a_certificate_re_enrols_under_its_own_names_and_a_repetition_issues_nothing",
            "secrets_are_not_guessed_at_leisure",
            "est",
        ],
    ),
    (
        "25 weak, blocked and broken keys are refused",
        "CABF BR §6.1.1.3",
        &["bad_profiles", "a_key_that_was_compromised_is_refused_for_good"],
    ),
    (
        "26 a clock that was set back is noticed",
        "practice",
        &["health_findings", "a_revocation_in_the_second_of_the_last_list_is_on_the_next"],
    ),
];

/// Every `.rs` file below `folder`, as one text.
fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_rule_has_tests_that_are_there() {
    let mut text = String::new();
    for folder in ["src", "tests/it"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut text);
    }
    assert_eq!(RULES.len(), COUNT);
    for (at, (rule, section, tests)) in RULES.iter().enumerate() {
        let number = format!("{:02}", at + 1);
        assert!(rule.starts_with(&format!("{number} ")), "{rule} stands in the place of {number}");
        assert!(text.contains(&format!("fn rule_{number}_")), "{rule}: no test bears its number");
        assert!(!section.is_empty() && !tests.is_empty(), "{rule}");
        for test in *tests {
            assert!(text.contains(&format!("fn {test}(")), "{rule}: there is no test {test}");
        }
    }
}
