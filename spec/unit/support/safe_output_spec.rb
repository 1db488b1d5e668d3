# frozen_string_literal: true

RSpec.describe TaskerCore::Support::SafeOutput do
  # A stream whose writes fail like those to a closed terminal or a full disk.
  def failing(error) = Class.new(StringIO) { define_method(:write) { |*| raise error } }.new

  def pipe_without_reader
    reader, writer = IO.pipe
    reader.close
    writer
  end

  def full_pipe
    @reader, writer = IO.pipe # the reader is kept, and never reads
    loop { writer.write_nonblock("x" * 4096) }
  rescue IO::WaitWritable
    writer
  end

  it "drops a line that the stream does not accept" do
    closed = File.open(IO::NULL, "w").tap(&:close)
    streams = [pipe_without_reader, closed,
               *[Errno::EIO, Errno::ENOSPC, Errno::EPIPE, IOError].map { |error| failing(error) }]
    expect(streams.map { |stream| described_class.line("a", stream) }).to all be false
    expect(described_class.line("a", written = StringIO.new)).to be true
    expect(written.string).to eq "a\n"
  end

  it "drops a line when the reader does not read" do
    stub_const("#{described_class}::PATIENCE", 0.05)
    expect(Timeout.timeout(10) { described_class.line("a", full_pipe) }).to be false
  end

  it "makes a stream drop failed writes" do
    streams = [pipe_without_reader, failing(Errno::EIO)]
    described_class.tolerate(*streams)
    streams.each do |stream|
      expect do
        stream.puts "a", "b"
        stream.print "a"
        stream << "b"
        stream.printf("%d", 1)
        stream.flush
        Logger.new(stream).error("c")
      end.not_to output.to_stderr
    end
  end

  it "writes at once what a dying process would lose" do
    reader, writer = IO.pipe
    described_class.tolerate(writer)
    writer.print "a"
    expect(reader.read_nonblock(10)).to eq "a"
  end

  it "keeps a broken standard error from raising anywhere" do
    allow($stderr).to receive(:write).and_raise(Errno::EPIPE)
    subscriber = ActiveSupport::Notifications.subscribe("notify_failed.tasker_core") { raise IOError, "no log" }
    expect(TaskerCore::Instrumentation.instrument("notify_failed", error: RuntimeError.new("x")) { 7 }).to eq 7
  ensure
    ActiveSupport::Notifications.unsubscribe(subscriber)
  end

  it "keeps changing commands running without a reader" do
    lasting = TaskerCore::CLI.commands.keys.select { |name| TaskerCore::CLI.command(name).outlasts_reader? }
    expect(lasting)
      .to match_array %w[work run retry resolve complete update_result release cancel audit prune subscriptions]
  end

  it "ends a printing command quietly when its reader is gone" do
    errors = Tempfile.new
    status = Process.wait2(spawn(RbConfig.ruby, "-Ilib", "exe/tasker", "help",
                                 out: pipe_without_reader, err: errors.path, chdir: root)).last
    expect([status.exitstatus, File.read(errors.path)]).to eq [0, ""]
    writer = pipe_without_reader
    status = Process.wait2(spawn(RbConfig.ruby, "-Ilib", "exe/tasker", "hepl",
                                 out: writer, err: writer, chdir: root)).last
    expect(status.exitstatus).to eq 2
  end
end
