//! Inputs of several parts, written so that a person can read the committed ones.

/// The lines before the first empty line, and all that follows it. What is no UTF-8 before it counts as no line.
pub fn head_and_rest(input: &[u8]) -> (Vec<&str>, &[u8]) {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, rest) = end.map_or((input, &[][..]), |end| (&input[..end], &input[end + 2..]));
    let lines = std::str::from_utf8(head).map_or_else(|_| Vec::new(), |head| head.split('\n').collect());
    (lines, rest)
}
