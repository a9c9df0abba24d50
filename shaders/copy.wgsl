// copy: the values as they are, of any dtype.
//
//     y[i] = x[i]
//
// Launched by the frame, which binds `encoded` (read) and `decoded` (write). The record of a piece:
//     0  byte of `encoded` where the rows begin, a multiple of 4
//     1  bytes of a row

fn load(record: u32, row: u32, column: u32) -> u32 {
    let at = encoded[record] + row * encoded[record + 1u];
    // A half or a byte is not narrowed, so these are the dtype's own bits.
    switch UNIT_BITS {
        case 8u: {
            return byte_at(at + column);
        }
        case 16u: {
            if NARROW_TO == 0u {
                return half_at(at + column * 2u);
            }
            return word_at(at + column * 4u);
        }
        default: {
            return word_at(at + column * 4u);
        }
    }
}
