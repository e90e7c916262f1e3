import java.io.ByteArrayInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.CertPath;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertStore;
import java.security.cert.CertificateFactory;
import java.security.cert.CertificateRevokedException;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.PKIXRevocationChecker.Option;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * Asks Java's own PKIX revocation checker about a client certificate; prints "good" or "revoked REASON".
 *
 * Usage: RevocationCheck ocsp|crl ROOT ISSUING LEAF [CRL...]
 */
public class RevocationCheck {
    public static void main(String[] arguments) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        X509Certificate root = certificate(factory, arguments[1]);
        X509Certificate issuing = certificate(factory, arguments[2]);
        X509Certificate leaf = certificate(factory, arguments[3]);
        CertPathValidator validator = CertPathValidator.getInstance("PKIX");
        PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
        PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(root, null)));
        if (arguments[0].equals("ocsp")) {
            // The responder is found through the leaf; the issuing authority's status is on the root's list.
            checker.setOptions(EnumSet.of(Option.ONLY_END_ENTITY, Option.NO_FALLBACK));
        } else {
            checker.setOptions(EnumSet.of(Option.PREFER_CRLS, Option.NO_FALLBACK));
            List<java.security.cert.CRL> lists = new java.util.ArrayList<>();
            for (int at = 4; at < arguments.length; at++) {
                lists.add(factory.generateCRL(new ByteArrayInputStream(Files.readAllBytes(Path.of(arguments[at])))));
            }
            parameters.addCertStore(
                CertStore.getInstance("Collection", new CollectionCertStoreParameters(lists)));
        }
        parameters.addCertPathChecker(checker);
        CertPath path = factory.generateCertPath(List.of(leaf, issuing));
        try {
            validator.validate(path, parameters);
            System.out.println("good");
        } catch (CertPathValidatorException refused) {
            if (!(refused.getCause() instanceof CertificateRevokedException)) {
                throw refused;
            }
            CertificateRevokedException revoked = (CertificateRevokedException) refused.getCause();
            System.out.println("revoked " + revoked.getRevocationReason());
        }
    }

    private static X509Certificate certificate(CertificateFactory factory, String file) throws Exception {
        byte[] bytes = Files.readAllBytes(Path.of(file));
        return (X509Certificate) factory.generateCertificate(new ByteArrayInputStream(bytes));
    }
}
