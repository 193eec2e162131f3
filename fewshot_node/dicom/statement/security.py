"""Security of the node's associations (PS3.2 Annex N: security; PS3.15)."""

from fewshot_node.dicom.statement.markdown import table
from fewshot_node.dicom.tls import KEY_PASSWORD_VARIABLE, MINIMUM_TLS, TLS_1_2_CIPHERS


def sections() -> tuple[str, ...]:
    """Return the paragraphs of the section."""
    rows = [
        (
            "Secure transport of the Receiver",
            f"BCP 195 TLS (PS3.15 Annex B): {MINIMUM_TLS.name.replace('_', '.')} or newer, "
            f"for TLS 1.2 the cipher suites `{TLS_1_2_CIPHERS}` (OpenSSL's notation); clients without a certificate of "
            "`receive.tls.client_authority` are refused. On when `receive.tls` is set; the port then speaks "
            "nothing else. "
            f"The password of an encrypted key comes from the environment variable `{KEY_PASSWORD_VARIABLE}`.",
        ),
        (
            "Secure transport of the Client",
            "none: the way to the archive, and to peers of storage commitment, has to be protected by the network",
        ),
        (
            "Association level",
            "lists of calling AE titles and source addresses, check of the called AE title, limits in number and time",
        ),
        ("User identity negotiation", "none"),
        (
            "Audit trail",
            "none; the log names AE titles, addresses, UIDs and counts, and never a patient's name, identifier "
            "or birth date",
        ),
        (
            "Digital signatures",
            "not made and not checked; those of received instances stay as they are, since data sets are kept "
            "bit by bit",
        ),
        ("De-identification", "none; results carry the patient and study attributes of their source"),
    ]
    return (table(("Subject", "Support"), rows),)
