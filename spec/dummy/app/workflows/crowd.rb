# frozen_string_literal: true

# Four steps of one external system and one of none, each of which notes how many of its kind run beside it.
class Crowd < TaskerCore::Workflow
  BESIDE = Queue.new
  @running = Hash.new(0)
  @mutex = Mutex.new

  class << self
    # Answers the block's value; BESIDE gets [kind, how many run], this one included.
    def among(kind)
      @mutex.synchronize { BESIDE << [kind, @running[kind] += 1] }
      yield
    ensure
      @mutex.synchronize { @running[kind] -= 1 }
    end
  end

  4.times { |number| step :"call_#{number}", system: :bank }
  step :other

  4.times do |number|
    define_method(:"call_#{number}") { |context| self.class.among(:bank) { sleep(0.05) && { at: context.system.base_url } } }
  end

  def other(_context) = self.class.among(:other) { {} }
end
