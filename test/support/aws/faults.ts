/** What can be asked of the stand-in, as IAM calls it. */
export type AwsAction =
  | 'DescribeInstances'
  | 'DescribeInstanceConnectEndpoints'
  | 'GetConsoleOutput'
  | 'SendSSHPublicKey'
  | 'OpenTunnel';

/** An answer that is none: each protocol has its own way of writing it. */
export class AwsApiError extends Error {
  override readonly name = 'AwsApiError';
  readonly code: string;
  readonly status: number;

  constructor(code: string, message: string, status = 400) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

interface Fault {
  readonly effect: AwsApiError | 'hang';
  timesLeft: number;
}

/** What is to go wrong, and with what. */
export class AwsFaults {
  readonly #byAction = new Map<AwsAction, Fault>();
  readonly #byValue = new Map<string, AwsApiError>();

  /** The next so many requests get this error, by the name that AWS has for it. */
  fail(action: AwsAction, code: string, { times = Infinity, status = 400, message = code } = {}): void {
    this.#byAction.set(action, { effect: new AwsApiError(code, message, status), timesLeft: times });
  }

  throttle(action: AwsAction, times = Infinity): void {
    switch (action) {
      case 'SendSSHPublicKey':
        return this.fail(action, 'ThrottlingException', {
          times,
          message: 'Server is busy! Please retry after a moment.',
        });
      case 'OpenTunnel':
        return this.fail(action, 'ThrottlingException', { times, status: 429, message: 'Rate exceeded' });
      default:
        return this.fail(action, 'RequestLimitExceeded', { times, status: 503, message: 'Request limit exceeded.' });
    }
  }

  deny(action: AwsAction): void {
    const message = `User: arn:aws:sts::000000000000:assumed-role/plugset is not authorized to perform: ${action}`;
    if (action === 'SendSSHPublicKey') return this.fail(action, 'AccessDeniedException', { message });
    if (action === 'OpenTunnel') return this.fail(action, 'AccessDenied', { status: 403, message });
    this.fail(action, 'UnauthorizedOperation', { status: 403, message });
  }

  /** The next so many requests are taken and never answered. */
  hang(action: AwsAction, times = Infinity): void {
    this.#byAction.set(action, { effect: 'hang', timesLeft: times });
  }

  /** Every request that says this is refused as a whole, whatever else it asks. */
  refuse(value: string, code: string): void {
    this.#byValue.set(value, new AwsApiError(code, `Invalid value: ${value}`));
  }

  heal(): void {
    this.#byAction.clear();
    this.#byValue.clear();
  }

  /** What becomes of a request that has just come and says these. Throws the error; `hang`: let it wait for ever. */
  meet(action: AwsAction, values: Iterable<string> = []): 'hang' | undefined {
    for (const value of values) {
      const refusal = this.#byValue.get(value);
      if (refusal !== undefined) throw refusal;
    }
    const fault = this.#byAction.get(action);
    if (fault === undefined || fault.timesLeft <= 0) return undefined;
    fault.timesLeft -= 1;
    if (fault.effect === 'hang') return 'hang';
    throw fault.effect;
  }
}
