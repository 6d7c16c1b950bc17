/** A Python regular expression that matches `text` and nothing else, as Python's `re.escape` writes it. */
export const escapePattern = (text: string): string => text.replace(/[\t\n\v\f\r #$&()*+\-.?[\\\]^{|}~]/g, '\\$&');
