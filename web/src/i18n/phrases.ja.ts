// What the server says of a drill in words of its own, in Japanese. Texts that are not here, such as
// those of an operating system's errors, are shown as they came.

type Phrase = [RegExp, string];

export const DRILL_PHRASES: Phrase[] = [
  [/^(\d+) packets$/, "$1 パケット"],
  [/^(\d+) segments$/, "$1 セグメント"],
  [/^(\d+) bytes to (.+)$/, "$2 へ $1 バイト"],
  [/^answered (\d+)$/, "応答 $1"],
  [/^an entry of (.+)$/, "$1 のジャーナル項目"],
  [/^handed in here: .*/, "このサーバーのユーザーは自身のソケットを開けないため、内部で受け渡しました"],
  [/^its mark was forgotten$/, "目印が失われました"],
  [/^its mark was not known$/, "目印が登録されていません"],
  [/^it was sent, but its source did not hear it within (.+)$/, "送信しましたが、トリガー源は $1 以内に受信しませんでした"],
  [/^it could not be sent within (.+)$/, "$1 以内に送信できませんでした"],
  [/^the recorder linked no packets within ([^:]+)/, "レコーダーは $1 以内にパケットを保全しませんでした"],
  [/^the incident was not sealed within ([^:]+)/, "インシデントは $1 以内に封印されませんでした"],
  [/^the evidence was not read back within (.+)$/, "証拠を $1 以内に読み戻せませんでした"],
  [/^the evidence does not verify:/, "証拠が検証に失敗しました:"],
  [/^the marked packet was not found within (.+)$/, "目印のパケットは $1 以内に見つかりませんでした"],
  [
    /^the marked datagram to (.+) is not among the frozen packets: .*/,
    "$1 宛ての目印のデータグラムが保全したパケットにありません。経路が記録中のインターフェースを通るか、キャプチャフィルターを通過するかを確認してください",
  ],
  [/^no packet passed in its window:/, "対象の時間帯にパケットがありませんでした:"],
  [/^incident (\S+) is gone: .*/, "インシデント $1 はもうありません。上限に達すると訓練のものから解放されます"],
];

/** The text with the first phrase that it begins with put into Japanese. */
export function phrase(text: string, phrases: Phrase[]): string {
  const known = phrases.find(([said]) => said.test(text));
  return known ? text.replace(known[0], known[1]) : text;
}
