# frozen_string_literal: true

# Layout of what the commands print.
RSpec.describe TaskerCore::CLI do
  # A terminal if it has columns, otherwise a pipe or a file.
  def output(columns: nil)
    StringIO.new.tap do |out|
      out.define_singleton_method(:tty?) { !columns.nil? }
      out.define_singleton_method(:winsize) { [24, columns] }
    end
  end

  describe "docs/command_line.md" do
    let(:document) { File.read(File.expand_path("../../docs/command_line.md", __dir__)) }

    it "lists each command with its arguments" do
      usages = described_class.commands.keys.map do |name|
        command = described_class.command(name)
        ["tasker", name, *command.arguments].join(" ").gsub("|", "\\|")
      end
      expect(usages.reject { |usage| document.include?("`#{usage}`") }).to eq []
    end

    it "names only options that exist" do
      known = described_class.commands.keys.flat_map do |name|
        StringIO.new.tap { |out| described_class.new(out: out).run([name, "--help"]) }.string.scan(/--[a-z][a-z-]*/)
      end
      expect(document.scan(/(?<![\w-])--[a-z][a-z-]*/) - known).to eq []
    end
  end

  describe TaskerCore::CLI::Terminal do
    it "colours on a terminal unless NO_COLOR is set" do
      expect(described_class.new(output(columns: 80), environment: {}).paint_state("error")).to eq "\e[31merror\e[0m"
      expect(described_class.new(output(columns: 80), environment: { "NO_COLOR" => "" }).paint_state("error"))
        .to include "\e"
      expect(described_class.new(output(columns: 80), environment: { "NO_COLOR" => "1" }).paint_state("error"))
        .to eq "error"
      expect(described_class.new(output(columns: 80), environment: { "TERM" => "dumb" }).paint_state("error"))
        .to eq "error"
      expect(described_class.new(output, environment: {}).paint_state("error")).to eq "error"
    end

    it "has a colour for every state and severity" do
      terminal = described_class.new(output(columns: 80), environment: {})
      states = TaskerCore::Task::STATES + %w[ready waiting ok warning]
      expect(states.map { |state| terminal.paint_state(state) }).to all(start_with("\e["))
    end

    it "cuts a step's error to the terminal's width" do
      node = TaskerCore::Graph::Node.new(name: "only", dependencies: [], level: 0, state: "error",
                                         error: "a\nlong story")
      terminal = described_class.new(output(columns: 20), environment: { "NO_COLOR" => "1" })
      expect(terminal.node(node)).to eq "✘ only (error): a\\n…"
      expect(described_class.new(output).node(node)).to eq "✘ only (error): a\\nlong story"
    end
  end

  describe TaskerCore::CLI::Terminal::Table do
    def lines(columns, rows, width: nil)
      out = output(columns: width)
      described_class.new(TaskerCore::CLI::Terminal.new(out, environment: { "NO_COLOR" => "1" }), columns).lines(rows)
    end

    let(:columns) do
      [described_class::Column.new(heading: "A", shrinks: true), described_class::Column.new(heading: "B"),
       described_class::Column.new(heading: "C", shrinks: true)]
    end

    it "fits its columns to their content, one line a row" do
      expect(lines(columns, [%w[one 2 three], ["four\nfive", 66, ""]]))
        .to eq ["A           B   C", "one         2   three", "four\\nfive  66"]
    end

    it "drops optional columns, last first, when nothing can shrink" do
      optional = [columns[1], *%w[D E].map { |heading| described_class::Column.new(heading: heading, optional: true) },
                  columns[2]]
      row = %w[bbbb dddd eeee cccc]
      expect(lines(optional, [row], width: 22)).to eq ["B     D     E     C", "bbbb  dddd  eeee  cccc"]
      expect(lines(optional, [row], width: 21).last).to eq "bbbb  dddd  cccc"
      expect(lines(optional, [row], width: 12)).to eq ["B     C", "bbbb  cccc"]
    end

    it "shrinks column by column on a narrow terminal" do
      row = ["a" * 12, "b" * 12, "c" * 12]
      expect(lines(columns, [row], width: 38).last).to eq "#{'a' * 9}…  #{'b' * 12}  #{'c' * 12}"
      expect(lines(columns, [row], width: 33).last).to eq "#{'a' * 7}…  #{'b' * 12}  #{'c' * 8}…"
      expect(lines(columns, [row], width: 10).last).to eq "#{'a' * 7}…  #{'b' * 12}  #{'c' * 7}…"
    end
  end

  describe TaskerCore::CLI::Terminal::Units do
    let(:units) { Object.new.extend(described_class) }

    {
      nil => "-", 0 => "0 ms", 12.4 => "12 ms", 999.4 => "999 ms", 999.6 => "1.0 s", 3_449 => "3.4 s",
      59_940 => "59.9 s", 59_960 => "1 min 0 s",
      125_000 => "2 min 5 s", 3_600_000 => "1 h 0 min", 273_600_000 => "3 d 4 h"
    }.each do |milliseconds, text|
      it "formats #{milliseconds.inspect} ms as #{text}" do
        expect(units.send(:duration, milliseconds)).to eq text
      end
    end
  end
end
