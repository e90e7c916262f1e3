import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * Visits the gate with Java's own client, over HTTP/1.1 and HTTP/2, with a certificate and without. Prints a line for
 * each: the protocol, whether there was a certificate, the status, the body, separated by tabs.
 *
 * <pre>java Visit.java URL AUTHORITY.pem DEVICE.p12 PASSWORD</pre>
 */
class Visit {
    private static final Duration PATIENCE = Duration.ofSeconds(20);

    /** Visits that may be cut short before one is not. */
    private static final int MOST_TRIES = 20;

    public static void main(String[] arguments) throws Exception {
        URI url = URI.create(arguments[0]);
        for (HttpClient.Version version : HttpClient.Version.values()) {
            for (boolean isKnown : new boolean[] {true, false}) {
                KeyManager[] mine = isKnown ? keys(arguments[2], arguments[3].toCharArray()) : null;
                SSLContext tls = SSLContext.getInstance("TLS");
                tls.init(mine, trust(arguments[1]).getTrustManagers(), null);
                HttpClient.Builder fresh =
                        HttpClient.newBuilder().sslContext(tls).version(version).connectTimeout(PATIENCE);
                HttpRequest.Builder request = HttpRequest.newBuilder(url).timeout(PATIENCE);
                HttpClient kept = fresh.build();
                visit(isKnown ? kept : null, fresh, request.GET().build());
                HttpRequest post = request.POST(HttpRequest.BodyPublishers.ofString("x".repeat(1000))).build();
                visit(isKnown ? kept : null, fresh, post);
            }
        }
    }

    /** By the client that is kept; without one, by fresh ones until the connection's end takes no answer away. */
    private static void visit(HttpClient kept, HttpClient.Builder fresh, HttpRequest request) throws Exception {
        for (int tries = 1; ; tries++) {
            try {
                HttpClient client = kept != null ? kept : fresh.build();
                HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
                String isKnown = String.valueOf(kept != null);
                System.out.println(String.join("\t", answer.version().name(), isKnown, answer.statusCode() + "", answer.body()));
                return;
            } catch (IOException error) {
                // A refusal ends its connection. Before JDK-8335181 (24, 17.0.17) this client takes a GOAWAY for the end of
                // answers that are still on their way.
                boolean isCut = kept == null && String.valueOf(error.getMessage()).endsWith("GOAWAY received");
                if (!isCut || tries == MOST_TRIES) {
                    throw error;
                }
            }
        }
    }

    private static KeyManager[] keys(String file, char[] password) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream input = new FileInputStream(file)) {
            store.load(input, password);
        }
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(store, password);
        return keys.getKeyManagers();
    }

    private static TrustManagerFactory trust(String file) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream input = new FileInputStream(file)) {
            store.setCertificateEntry("authority", CertificateFactory.getInstance("X.509").generateCertificate(input));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        return trust;
    }
}
