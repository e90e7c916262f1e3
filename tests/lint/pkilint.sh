#!/bin/sh
# Runs pkilint over a folder of certificates, lists and OCSP answers; a finding of severity ERROR or FATAL fails,
# unless pkilint.exceptions names it with its reason.
# Usage: pkilint.sh FOLDER
# Needs lint_pkix_cert, lint_crl, lint_ocsp_response and lint_pkix_signer_signee_cert_chain
# (`pip install pkilint`) on the PATH.
set -u
folder=${1:?usage: pkilint.sh FOLDER}
exceptions=$(mktemp)
trap 'rm -f "$exceptions"' EXIT
grep -Ev '^(#|$)' "$(dirname "$0")/pkilint.exceptions" >"$exceptions"
checks=0
failed=0
excepted=0

check() {
    checks=$((checks + 1))
    findings=$("$@" 2>&1)
    status=$?
    bad=$(printf '%s\n' "$findings" | grep -E '\((ERROR|FATAL)\)')
    left=$(printf '%s' "$bad" | grep -Evf "$exceptions")
    if [ -n "$left" ] || { [ "$status" -ne 0 ] && [ -z "$bad" ]; }; then
        failed=$((failed + 1))
        printf 'FAILED: %s\n%s\n' "$*" "$findings"
    elif [ -n "$bad" ]; then
        excepted=$((excepted + 1))
    fi
}

for file in "$folder"/*.cert.pem; do
    check lint_pkix_cert lint -s ERROR -f TEXT "$file"
    name=$(basename "$file")
    case $name in
    *--*)
        issuer=$folder/${name%%--*}
        [ -f "$issuer.cert.pem" ] && issuer=$issuer.cert.pem || issuer=$issuer.issuer.pem
        check lint_pkix_signer_signee_cert_chain lint -s ERROR -f TEXT "$issuer" "$file"
        ;;
    esac
done

for file in "$folder"/*.crl.pem; do
    check lint_crl lint -t CRL -p PKIX -s ERROR -f TEXT "$file"
done

for file in "$folder"/*.ocsp.der; do
    check lint_ocsp_response lint -s ERROR -f TEXT --document-format DER "$file"
done

if [ "$failed" -eq 0 ]; then
    echo "pkilint: no errors in $checks checks ($excepted with named exceptions only)"
else
    echo "pkilint: $failed of $checks checks failed"
    exit 1
fi
