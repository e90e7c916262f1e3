"""Asks about a client certificate with Python's cryptography: OCSP by POST with a nonce and by GET
without, and the list that the certificate names. Prints "good" or "revoked REASON", once for each.

Usage: revocation_check.py ISSUING LEAF
"""

import base64
import datetime
import os
import sys
import urllib.parse
import urllib.request

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID


def read(path):
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificate(file.read())


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def fetch(request):
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


def ask(issuing, leaf, url, nonce):
    builder = ocsp.OCSPRequestBuilder()
    builder = builder.add_certificate(leaf, issuing, hashes.SHA256() if nonce else hashes.SHA1())
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    request = builder.build()
    der = request.public_bytes(serialization.Encoding.DER)
    if nonce:
        kind = {"Content-Type": "application/ocsp-request"}
        body = fetch(urllib.request.Request(url, data=der, headers=kind))
    else:
        body = fetch(url + "/" + urllib.parse.quote(base64.b64encode(der), safe=""))
    response = ocsp.load_der_ocsp_response(body)
    assert response.response_status == ocsp.OCSPResponseStatus.SUCCESSFUL, response.response_status
    assert response.serial_number == leaf.serial_number
    assert response.this_update_utc <= now() < response.next_update_utc
    if nonce:
        echoed = response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
        assert echoed == nonce, "another nonce"
    [signer] = response.certificates
    signer.verify_directly_issued_by(issuing)
    purposes = list(signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert purposes == [ExtendedKeyUsageOID.OCSP_SIGNING], purposes
    signer.extensions.get_extension_for_oid(ExtensionOID.OCSP_NO_CHECK)
    assert signer.not_valid_before_utc <= now() <= signer.not_valid_after_utc
    key_hash = x509.SubjectKeyIdentifier.from_public_key(signer.public_key()).digest
    assert response.responder_key_hash == key_hash, "another signer"
    algorithm = ec.ECDSA(response.signature_hash_algorithm)
    signer.public_key().verify(response.signature, response.tbs_response_bytes, algorithm)
    if response.certificate_status == ocsp.OCSPCertStatus.REVOKED:
        return word(response.revocation_reason)
    assert response.certificate_status == ocsp.OCSPCertStatus.GOOD, response.certificate_status
    return "good"


def listed(issuing, leaf):
    [point] = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    crl = x509.load_der_x509_crl(fetch(point.full_name[0].value))
    assert crl.issuer == leaf.issuer and crl.is_signature_valid(issuing.public_key())
    assert crl.last_update_utc <= now() < crl.next_update_utc
    entry = crl.get_revoked_certificate_by_serial_number(leaf.serial_number)
    if entry is None:
        return "good"
    try:
        return word(entry.extensions.get_extension_for_class(x509.CRLReason).value.reason)
    except x509.ExtensionNotFound:
        return word(None)


def word(reason):
    return "revoked " + (reason or x509.ReasonFlags.unspecified).value


def main():
    issuing, leaf = read(sys.argv[1]), read(sys.argv[2])
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    [url] = [d.access_location.value for d in access if d.access_method == AuthorityInformationAccessOID.OCSP]
    print(ask(issuing, leaf, url, os.urandom(32)))
    print(ask(issuing, leaf, url, None))
    print(listed(issuing, leaf))


main()
