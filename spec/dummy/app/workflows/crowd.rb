# frozen_string_literal: true

# Four steps of one external system and one of none, each of which notes how many others run beside it: of its system, of
# its task, and in all.
class Crowd < TaskerCore::Workflow
  BESIDE = Queue.new
  @running = Hash.new(0)
  @mutex = Mutex.new

  class << self
    # Answers the block's value; BESIDE gets [group, how many run] for each group, this one included.
    def among(*groups)
      @mutex.synchronize { groups.each { |group| BESIDE << [group, @running[group] += 1] } }
      yield
    ensure
      @mutex.synchronize { groups.each { |group| @running[group] -= 1 } }
    end
  end

  4.times { |number| step :"call_#{number}", system: :bank }
  step :other

  4.times do |number|
    define_method(:"call_#{number}") do |context|
      self.class.among(:bank, :all, context.task_id) { sleep(0.05) && { at: context.system.base_url } }
    end
  end

  def other(context) = self.class.among(:all, context.task_id) { {} }
end
