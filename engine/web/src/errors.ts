/** Errors of the engine. The message says what was found, what was expected, and how to mend it. */
export class SaoOnnxError extends Error {
  override name = "SaoOnnxError";
}

/** An option that the model cannot carry out. */
export class RequestError extends SaoOnnxError {
  override name = "RequestError";
}

/** A bundle that cannot be used. */
export class BundleError extends SaoOnnxError {
  override name = "BundleError";
}
