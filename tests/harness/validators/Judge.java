import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.cert.CRL;
import java.security.cert.CertPathValidator;
import java.security.cert.CertStore;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.TrustAnchor;
import java.security.cert.X509CRL;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Date;
import java.util.EnumSet;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Asks Java's PKIX validator about certificates: cases come in as JSON, answers go out as JSON. */
public class Judge {
    private static final Pattern CASE = Pattern.compile("\\{[^{}]*\\}");
    private static CertificateFactory factory;

    public static void main(String[] arguments) throws Exception {
        if (arguments.length == 1) {
            KeyFactory.getInstance(arguments[0]); // whether it is known here
            return;
        }
        factory = CertificateFactory.getInstance("X.509");
        String input = new String(System.in.readAllBytes(), StandardCharsets.US_ASCII);
        List<String> answers = new ArrayList<>();
        Matcher cases = CASE.matcher(input);
        while (cases.find()) {
            String reason = "";
            try {
                judge(cases.group());
            } catch (GeneralSecurityException refused) {
                reason = refused.toString().replaceAll("[^\\x20-\\x7e]|[\"\\\\]", " ");
            }
            answers.add("\"" + text(cases.group(), "name") + "\": \"" + reason + "\"");
        }
        System.out.println("{" + String.join(", ", answers) + "}");
    }

    private static void judge(String question) throws Exception {
        List<X509Certificate> path = new ArrayList<>();
        path.add(certificate(bytes(text(question, "leaf"))));
        if (text(question, "listing").equals("1")) {
            listed(path.get(0), question);
            return;
        }
        for (String one : list(question, "chain")) {
            path.add(certificate(bytes(one)));
        }
        Set<TrustAnchor> anchors = new HashSet<>();
        for (String one : list(question, "roots")) {
            anchors.add(new TrustAnchor(certificate(bytes(one)), null));
        }
        PKIXParameters parameters = new PKIXParameters(anchors);
        parameters.setDate(new Date(1000L * Long.parseLong(text(question, "at"))));
        X509CertSelector target = new X509CertSelector();
        if (!text(question, "host").isEmpty()) {
            target.addSubjectAlternativeName(2, text(question, "host"));
        }
        if (!text(question, "purpose").isEmpty()) {
            target.setExtendedKeyUsage(Set.of(text(question, "purpose")));
        }
        parameters.setTargetCertConstraints(target);
        CertPathValidator validator = CertPathValidator.getInstance("PKIX");
        List<CRL> crls = new ArrayList<>();
        for (String one : list(question, "crls")) {
            crls.add(factory.generateCRL(new ByteArrayInputStream(bytes(one))));
        }
        byte[] ocsp = bytes(text(question, "ocsp"));
        parameters.setRevocationEnabled(!crls.isEmpty() || ocsp.length > 0);
        PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
        // To this checker a CA is never the end entity, not even as the target.
        boolean end = path.get(0).getBasicConstraints() < 0;
        if (ocsp.length > 0) {
            checker.setOcspResponses(Map.of(path.get(0), ocsp));
            EnumSet<PKIXRevocationChecker.Option> options = EnumSet.of(PKIXRevocationChecker.Option.NO_FALLBACK);
            if (end) {
                options.add(PKIXRevocationChecker.Option.ONLY_END_ENTITY);
            }
            checker.setOptions(options);
            parameters.addCertPathChecker(checker);
        } else if (!crls.isEmpty()) {
            parameters.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(crls)));
            EnumSet<PKIXRevocationChecker.Option> options =
                    EnumSet.of(PKIXRevocationChecker.Option.PREFER_CRLS, PKIXRevocationChecker.Option.NO_FALLBACK);
            if (end && text(question, "leaf_only").equals("1")) {
                options.add(PKIXRevocationChecker.Option.ONLY_END_ENTITY);
            }
            checker.setOptions(options);
            parameters.addCertPathChecker(checker);
        }
        validator.validate(factory.generateCertPath(path), parameters);
    }

    /** Whether CRLs are by an issuer, and current. */
    private static void listed(X509Certificate issuer, String question) throws GeneralSecurityException {
        Date at = new Date(1000L * Long.parseLong(text(question, "at")));
        for (String one : list(question, "crls")) {
            X509CRL crl = (X509CRL) factory.generateCRL(new ByteArrayInputStream(bytes(one)));
            crl.verify(issuer.getPublicKey());
            if (!crl.getIssuerX500Principal().equals(issuer.getSubjectX500Principal())) {
                throw new GeneralSecurityException("the CRL is by another issuer");
            }
            if (at.before(crl.getThisUpdate()) || at.after(crl.getNextUpdate())) {
                throw new GeneralSecurityException("the CRL is not current");
            }
        }
    }

    private static X509Certificate certificate(byte[] der) throws GeneralSecurityException {
        return (X509Certificate) factory.generateCertificate(new ByteArrayInputStream(der));
    }

    private static byte[] bytes(String text) {
        return Base64.getDecoder().decode(text);
    }

    /** A string or a number of a flat object. */
    private static String text(String object, String name) {
        Matcher found = Pattern.compile("\"" + name + "\": (?:\"([^\"]*)\"|(-?[0-9]+))").matcher(object);
        if (!found.find()) {
            throw new IllegalArgumentException(name + " is missing");
        }
        return found.group(1) != null ? found.group(1) : found.group(2);
    }

    /** An array of strings of a flat object. */
    private static List<String> list(String object, String name) {
        Matcher found = Pattern.compile("\"" + name + "\": \\[([^\\]]*)\\]").matcher(object);
        if (!found.find()) {
            throw new IllegalArgumentException(name + " is missing");
        }
        List<String> values = new ArrayList<>();
        Matcher each = Pattern.compile("\"([^\"]*)\"").matcher(found.group(1));
        while (each.find()) {
            values.add(each.group(1));
        }
        return values;
    }
}
